"""
The contract between host and container: paths, variables, labels, exit codes.

Both sides import it, so it uses only the standard library. ``docs/contract.md`` describes the
same values; a test compares the two.
"""

from typing import Final

# --- paths in the container ------------------------------------------------------
OUTPUT: Final = "/output"
"""The run's folder on the host, writable, owned by the caller."""

DATA: Final = "/data"
"""The folder passed with ``--data``, or the parent of named ones; read-only, or absent."""

CODE: Final = "/code"
"""The folder of a user's script: a layer of the image, or a mount."""

NETRC: Final = "/run/secrets/netrc"
"""The W&B key as a netrc file on tmpfs, readable only by the run's user."""

IMAGE_FACTS: Final = "/opt/samerun/image.json"
"""Versions, CUDA release and GPU architectures of the image, written by the build."""

BUILD_FACTS: Final = "/opt/samerun/build.json"
"""The base image by digest, and the hash of the lock file."""

IMAGE_SBOM: Final = "/opt/samerun/sbom.cdx.json"
"""Software bill of materials (CycloneDX JSON): Python and Debian packages."""

# --- files of a run, relative to its folder --------------------------------------
RECORD: Final = "run.json"
LOG: Final = "log.txt"
PATCH: Final = "code.patch"
RESERVE: Final = ".reserve"
"""Reserves disk space for the final record."""

STOP: Final = ".stop"
"""Written by `invoke stop` to prevent restarts."""

SYNC: Final = "sync.json"
"""What `invoke sync` found on W&B's server."""

CHECKPOINTS: Final = "checkpoints"
"""Folder of the checkpoints; only `samerun.train.checkpoint` writes and reads it."""

STEPS: Final = ".samerun/epochs.jsonl"
"""One line per epoch: exact metrics, loss of each step and hash of each tensor."""

PARTS: Final = ".samerun"
"""Folder of the parts of the record that the container reports; see ``parts.assemble``."""

# --- environment of the container ------------------------------------------------
ENV_RECORD: Final = "SAMERUN_RECORD"
"""Path of the record in the container; if set, digest and record are added to W&B runs."""

ENV_DATA: Final = "SAMERUN_DATA"
"""``/data`` if ``--data`` was given, unset otherwise."""

ENV_SEED: Final = "SAMERUN_SEED"
"""The run's seed, for scripts that create their own generators."""

ENV_GPUS: Final = "SAMERUN_GPUS"
"""The number of GPUs that the container must have; ``0``: none is used; unset: not checked."""

ENV_PROGRESS: Final = "SAMERUN_PROGRESS"
"""The columns of the host's terminal, if it has one: progress bars are drawn in them."""

ENV_CHECKPOINTS: Final = "SAMERUN_CHECKPOINTS"
"""When to write checkpoints, as ``epochs=1,batches=0,minutes=10,keep=2``; unset: never."""

ENV_FAST: Final = "SAMERUN_FAST"
"""``1`` with ``--fast``: the expensive determinism settings are off."""

ENV_STOP_ON_NAN: Final = "SAMERUN_STOP_ON_NAN"
"""``1`` with ``--stop-on-nan``: a non-finite loss ends the training with 111."""

ENV_READS_FROM: Final = "SAMERUN_READS_FROM"
"""Folder in which a script finds what it reads by a relative path and did not write itself."""

ENV_IMAGE: Final = "SAMERUN_IMAGE"
"""``NAME@sha256:…``: the expected image of a standalone container."""

ENV_RUN: Final = "SAMERUN_RUN"
"""The run's name, for a standalone container."""

ENV_ENGINE: Final = "SAMERUN_ENGINE"
"""What started a standalone container: ``kubernetes``, ``skypilot``; unset: by hand."""

ENV_POD: Final = "SAMERUN_POD"
"""The pod's name, used to ask the cluster for the running digest."""

ENV_COMMIT: Final = "SAMERUN_COMMIT"
"""The commit from which the file for the cloud was written."""

ENV_SOURCE: Final = "SAMERUN_DATA_SOURCE"
"""Where a standalone container's data comes from, e.g. ``s3://photos``; see docs/contract.md."""

ENV_FINGERPRINT: Final = "SAMERUN_FINGERPRINT"
"""``0``: a standalone container does not read its data to compute a fingerprint."""

ENV_NODES: Final = "SAMERUN_NODES"
"""The number of machines in one job, or ``MIN:MAX``; unset: one."""

ENV_NODE_RANK: Final = "SAMERUN_NODE_RANK"
"""Rank of this machine, from 0."""

ENV_RDZV: Final = "SAMERUN_RDZV"
"""``HOST:PORT`` of the first machine, where all of a job's machines meet."""

ENV_ELASTIC: Final = "SAMERUN_ELASTIC"
"""``1`` in a job whose number of nodes may change; the entrypoint sets it for its workers."""

ENV_VARIABLES: Final = "SAMERUN_ENV"
"""Names of the variables given with ``--env``, separated by commas; unset: none."""

FORWARDED: Final = (
    "WANDB_BASE_URL",
    "WANDB_ENTITY",
    "WANDB_PROJECT",
    "WANDB_NAME",
    "WANDB_NOTES",
    "WANDB_TAGS",
    "WANDB_MODE",
    "WANDB_RUN_GROUP",
    "WANDB_JOB_TYPE",
)
"""W&B settings passed on from the host's environment. None of them is a secret."""

PROXIES: Final = tuple(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (upper, upper.lower())
)
"""Proxy settings of the host, passed on unless they contain a login."""

# --- labels ----------------------------------------------------------------------
LABEL_FOREGROUND: Final = "io.samerun.foreground"
"""On a container that must not outlive the command that started it, and no other."""

LABEL_INPUTS: Final = "io.samerun.inputs"
"""On the image: hash of everything that the build read."""

LABEL_BASE: Final = "io.samerun.base"
"""On the image: the base image, by digest."""

LABEL_BASE_ORIGIN: Final = "io.samerun.base.origin"
"""On the image: ``pulled`` or ``bootstrapped``."""

LABEL_CUDA: Final = "io.samerun.cuda"
"""On the image: ``12``, ``13`` or ``none`` (CPU only)."""

LABEL_LOCK: Final = "io.samerun.lock"
"""On the image: SHA-256 of ``uv.lock``."""

LABEL_RUN: Final = "io.samerun.run"
"""On the container: name of the run."""

# --- W&B -------------------------------------------------------------------------
TAG_LIMIT: Final = 64
"""Characters in a W&B tag, checked by ``wandb.init`` since 0.21.4; SHA-256 fits exactly."""

CONFIG_KEY: Final = "samerun"
"""Key of the W&B config entry with the image and the run's identity."""

# --- exit codes that are not errors of the host -----------------------------------
EXIT_PREEMPTED: Final = 75
"""EX_TEMPFAIL: the run wrote a checkpoint after a signal and can be resumed."""

# --- reasons of runs that did not end by themselves --------------------------------
OUT_OF_MEMORY: Final = "out of memory"
NODE_LOST: Final = "a node was lost"
OUTPUT_FULL: Final = "the disk of the output is full"
DATA_GONE: Final = "the data vanished"

# --- numbers ---------------------------------------------------------------------
DEFAULT_SEED: Final = 42
DEFAULT_CHECKPOINTS: Final = "epochs=1,batches=0,minutes=10,keep=2"
FULL_BYTES: Final = 256 * 1024
"""With less free space than this, the output's disk counts as full."""

FINISH_TIMEOUT_S: Final = 300
"""Without a limit, wandb's finish() waits forever for a lost server. Data that has not arrived
by then is on disk, and `invoke sync` uploads it."""

STOP_TIMEOUT_S: Final = 45
"""Seconds from SIGTERM to SIGKILL of the container."""

WORKERS_STOP_S: Final = STOP_TIMEOUT_S - 5
"""Seconds that torch's launcher gives its workers to write a checkpoint; its default is 30."""

EPOCH: Final = 315532800
"""SOURCE_DATE_EPOCH of every build, 1980-01-01: the earliest that zip files can hold."""

NONDETERMINISTIC: Final = "nondeterministic"
"""A part and a field of the environment: names of operations of which torch warned."""
