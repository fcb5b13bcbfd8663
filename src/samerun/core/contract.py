"""
What host and container agree on: paths, variables, labels, exit codes.

Imported by both sides and therefore standard library only. ``docs/contract.md``
is the prose of this file; a test compares the two.
"""

from typing import Final

# --- paths in the container ------------------------------------------------------
OUTPUT: Final = "/output"
"""The run's folder on the host, writable, owned by the caller."""

DATA: Final = "/data"
"""The folder given by ``--data``, read-only; absent without it."""

CODE: Final = "/code"
"""The folder of a user's own script: a layer of the image, or a mount."""

NETRC: Final = "/run/secrets/netrc"
"""The W&B key as a netrc file on tmpfs, readable by the run's user alone."""

IMAGE_FACTS: Final = "/opt/samerun/image.json"
"""Versions, CUDA release and GPU architectures of the image, written by the build."""

BUILD_FACTS: Final = "/opt/samerun/build.json"
"""What the image was built from: its base by digest, and the hash of the lock."""

IMAGE_SBOM: Final = "/opt/samerun/sbom.cdx.json"
"""Software bill of materials, CycloneDX JSON: Python's and Debian's packages."""

# --- files of a run, relative to its folder --------------------------------------
RECORD: Final = "run.json"
LOG: Final = "log.txt"
PATCH: Final = "code.patch"
RESERVE: Final = ".reserve"
"""Room for the last version of the record, should the disk be full by then."""

STOP: Final = ".stop"
"""Left by `invoke stop` for the command that follows the run: don't start it again."""

SYNC: Final = "sync.json"
"""What W&B's server was found to have of the run; written by `invoke sync`."""

CHECKPOINTS: Final = "checkpoints"
"""Folder of the checkpoints; `samerun.train.checkpoint` alone writes and reads there."""

STEPS: Final = ".samerun/epochs.jsonl"
"""A line per epoch: metrics, loss of each step and hash of each tensor, to the last bit."""

PARTS: Final = ".samerun"
"""Folder of the parts that the container reports; see ``record.assemble``."""

# --- environment of the container ------------------------------------------------
ENV_RECORD: Final = "SAMERUN_RECORD"
"""Path of the record in the container; every Python there signs W&B runs with it."""

ENV_DATA: Final = "SAMERUN_DATA"
"""``/data`` where ``--data`` was given, unset otherwise."""

ENV_SEED: Final = "SAMERUN_SEED"
"""The run's seed, for scripts that make generators of their own."""

ENV_PROGRESS: Final = "SAMERUN_PROGRESS"
"""``1`` where the host's output is a terminal: progress bars are drawn."""

ENV_CHECKPOINTS: Final = "SAMERUN_CHECKPOINTS"
"""When to write checkpoints, as ``epochs=1,batches=0,minutes=10,keep=2``; unset: never."""

ENV_FAST: Final = "SAMERUN_FAST"
"""``1`` with ``--fast``: the costly switches of determinism are off."""

ENV_STOP_ON_NAN: Final = "SAMERUN_STOP_ON_NAN"
"""``1`` with ``--stop-on-nan``: a loss that is not finite ends the training with 111."""

ENV_IMAGE: Final = "SAMERUN_IMAGE"
"""``NAME@sha256:…``: the image that a container started without the kit is expected to run."""

ENV_RUN: Final = "SAMERUN_RUN"
"""The run's name, for a container started without the kit."""

ENV_ENGINE: Final = "SAMERUN_ENGINE"
"""What started a container without the kit: ``kubernetes``, ``skypilot``; unset: by hand."""

ENV_POD: Final = "SAMERUN_POD"
"""The pod's name, by Kubernetes' downward API; its digest is then asked of the cluster."""

ENV_COMMIT: Final = "SAMERUN_COMMIT"
"""The commit of the checkout that the file for the cloud was written from."""

ENV_SOURCE: Final = "SAMERUN_DATA_SOURCE"
"""Where a container started without the kit has its data from, as the user would name it."""

ENV_FINGERPRINT: Final = "SAMERUN_FINGERPRINT"
"""``0``: a container started without the kit does not read its data for a fingerprint."""

ENV_NODES: Final = "SAMERUN_NODES"
"""The number of machines in one job, or ``MIN:MAX``; unset: one."""

ENV_NODE_RANK: Final = "SAMERUN_NODE_RANK"
"""Which of the machines this is, from 0."""

ENV_RDZV: Final = "SAMERUN_RDZV"
"""``HOST:PORT`` of the first machine, where all of a job's machines meet."""

ENV_ELASTIC: Final = "SAMERUN_ELASTIC"
"""``1`` in a job whose number of nodes may change; the entry sets it for its workers."""

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
"""W&B settings taken over from the host's environment. None of them is a secret."""

PROXIES: Final = tuple(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (upper, upper.lower())
)
"""How a machine that reaches the world through a proxy says so; passed on without logins."""

# --- labels ----------------------------------------------------------------------
LABEL_INPUTS: Final = "io.samerun.inputs"
"""On the image: hash over everything that the build read."""

LABEL_BASE: Final = "io.samerun.base"
"""On the image: reference of the base, by digest."""

LABEL_BASE_ORIGIN: Final = "io.samerun.base.origin"
"""On the image: ``pulled`` or ``bootstrapped``."""

LABEL_CUDA: Final = "io.samerun.cuda"
"""On the image: ``12`` or ``13``, the major CUDA release that it was locked for."""

LABEL_LOCK: Final = "io.samerun.lock"
"""On the image: SHA-256 of ``uv.lock``."""

LABEL_RUN: Final = "io.samerun.run"
"""On the container: name of the run."""

# --- W&B -------------------------------------------------------------------------
TAG_LIMIT: Final = 64
"""Characters in a W&B tag, checked by ``wandb.init`` since 0.21.4; SHA-256 fits exactly."""

CONFIG_KEY: Final = "samerun"
"""Key of the W&B config under which the image and the run's identity stand."""

# --- exit codes that are no error of the host's -----------------------------------
EXIT_PREEMPTED: Final = 75
"""EX_TEMPFAIL: checkpointed after a signal, start me again."""

# --- why a run ended, where its surroundings ended it ------------------------------
OUT_OF_MEMORY: Final = "out of memory"
NODE_LOST: Final = "a node was lost"
OUTPUT_FULL: Final = "the disk of the output is full"
DATA_GONE: Final = "the data vanished"

# --- numbers ---------------------------------------------------------------------
DEFAULT_SEED: Final = 42
DEFAULT_CHECKPOINTS: Final = "epochs=1,batches=0,minutes=10,keep=2"
FULL_BYTES: Final = 256 * 1024
"""Less than this free on the output's disk explains a failure."""

FINISH_TIMEOUT_S: Final = 300
"""Without it wandb's finish() waits for ever for a server that went away. What did not arrive
by then is on disk, and `invoke sync` delivers it."""

STOP_TIMEOUT_S: Final = 45
"""Seconds from SIGTERM to SIGKILL: torch's launcher gives its workers 30 of them."""

EPOCH: Final = 315532800
"""SOURCE_DATE_EPOCH of every build, 1980-01-01: the earliest that zip files can hold."""
