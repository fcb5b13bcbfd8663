"""
A VM's data and outputs in buckets, transferred by rclone.

All settings of the service are rclone variables, none is in the remote's name: the name has
precedence, so a machine could not select an S3 service other than Amazon's.
"""

import shlex
from collections.abc import Mapping

from samerun.core import contract
from samerun.host.cloud.request import CloudRequest, Location
from samerun.host.machine import user

REMOTES: Mapping[str, str] = {"s3": ":s3:", "gs": ":gcs:"}
# The login is the machine's identity, or in ACCESS. Without rclone's bucket check, permission
# to read and write objects is enough, and a typing error creates no bucket.
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "RCLONE_S3_PROVIDER": "AWS",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    },
    "gs": {
        "RCLONE_GCS_ENV_AUTH": "true",
        "RCLONE_GCS_NO_CHECK_BUCKET": "true",
        # Google refuses ACLs on buckets with uniform access, which it recommends.
        "RCLONE_GCS_BUCKET_POLICY_ONLY": "true",
    },
}
ACCESS = "/etc/samerun/bucket.env"
UPLOAD = "/usr/local/sbin/samerun-upload"
SERVICE, TIMER = "samerun-upload.service", "samerun-upload.timer"
EVERY = "2min"
# The network may not be up yet at boot, or the service may be down for minutes.
RETRIES = "--retries 10 --retries-sleep 30s"
# Not part of the results: the file that reserves disk space, and the request to stop.
EXCLUDED = (contract.RESERVE, contract.STOP)


def places(request: CloudRequest) -> list[Location]:
    """Return the buckets of *request*."""
    locations = (*request.data, request.output)
    return [location for location in locations if location and location.kind in REMOTES]


def takes_outputs(request: CloudRequest) -> bool:
    """Whether the run's folder is kept in a bucket."""
    return bool(request.output and request.output.kind in REMOTES)


def settings(request: CloudRequest) -> list[str]:
    """Return the lines of a unit that configure rclone's service and login."""
    values = {n: v for bucket in places(request) for n, v in VARIABLES[bucket.kind].items()}
    lines = [f'Environment="{name}={value}"' for name, value in values.items()]
    return [*lines, f"EnvironmentFile=-{ACCESS}"] if values else []


def fetch_data(request: CloudRequest, folder: str) -> list[str]:
    """Return the shell lines that sync *folder*, or the folders in it, with the data's buckets."""
    return [
        f"rclone sync {RETRIES} {_remote(place)} {shlex.quote(in_folder(place, folder))}"
        for place in request.data
        if place.kind in REMOTES
    ]


def in_folder(place: Location, folder: str) -> str:
    """Return where the data is in *folder*."""
    return f"{folder}/{place.label}" if place.label else folder


def fetch_run(request: CloudRequest, folder: str) -> list[str]:
    """Return the shell lines that fetch the run's folder onto a new machine."""
    if not takes_outputs(request):
        return []
    # Atomic: an incomplete folder would be taken for the run.
    part, folder = shlex.quote(f"{folder}.part"), shlex.quote(folder)
    owner = f"{user.NONROOT}:{user.NONROOT}"
    return [
        f"if [ ! -d {folder} ]; then",
        f"    rm -rf {part}",
        f"    rclone copy {RETRIES} {_remote_of_run(request)} {part}",
        f"    if [ -f {part}/{contract.RECORD} ]; then",
        f"        chown -R {owner} {part}",
        f"        mv {part} {folder}",
        "    fi",
        "fi",
    ]


def upload(request: CloudRequest, folder: str, unit: str) -> str:
    """
    Return the script that uploads the run's folder to its bucket, at any time of the run.

    The checkpoints are linked first and sent last. If the machine vanishes, the logs and rows
    in the bucket reach at least as far as its last checkpoint, as a resume requires. Hard links
    are enough, because the files of a checkpoint never change.
    """
    source, snapshot = (
        shlex.quote(folder + end) for end in (f"/{contract.CHECKPOINTS}", ".snapshot")
    )
    folder = shlex.quote(folder)
    remote = _remote_of_run(request)
    excluded = [*(f"/{name}" for name in EXCLUDED), f"/{contract.CHECKPOINTS}/**"]
    # A growing file is sent with the length it had at the start.
    copy = ["rclone", "copy", "--local-no-check-updated"]
    copy += [word for name in excluded for word in ("--exclude", name)]
    # Checkpoints that the run deleted are deleted in the bucket, after the new ones arrived.
    sync = ["rclone", "sync", "--exclude", ".*.part"]
    lines = [
        "#!/bin/sh",
        f"# Every {EVERY} and at the end of the run, until a complete copy succeeds after it.",
        "set -eu",
        # The last upload waits for one in progress.
        "exec 9>/run/samerun-upload.lock",
        "flock 9",
        f"[ -d {folder} ] || exit 0",
        f"state=$(systemctl is-active {unit} || :)",
        f"rm -rf {snapshot}",
        f"if [ -d {source} ]; then cp -al {source} {snapshot}; fi",
        f"{shlex.join(copy)} {folder} {remote}",
        f"if [ -d {snapshot} ]; then",
        f"    {shlex.join(sync)} {snapshot} {remote}/{contract.CHECKPOINTS}",
        "fi",
        f"rm -rf {snapshot}",
        f'case "$state" in inactive | failed) systemctl stop --no-block {TIMER} ;; esac',
    ]
    return "\n".join(lines) + "\n"


def service(request: CloudRequest) -> str:
    """Return the unit of one upload; a failed upload does not affect the training."""
    lines = [
        "[Unit]",
        f"Description=Upload the outputs of samerun run {request.name}",
        "Wants=network-online.target",
        "After=network-online.target",
        # No limit on retries: the next upload may succeed.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=oneshot",
        'Environment="HOME=/root"',
        *settings(request),
        f"ExecStart={UPLOAD}",
    ]
    return "\n".join(lines) + "\n"


def timer(request: CloudRequest) -> str:
    """Return the unit that starts uploads periodically, from the start of the training."""
    lines = [
        "[Unit]",
        f"Description=Upload the outputs of samerun run {request.name} every {EVERY}",
        "",
        "[Timer]",
        f"OnActiveSec={EVERY}",
        f"OnUnitInactiveSec={EVERY}",
        "AccuracySec=1s",
    ]
    return "\n".join(lines) + "\n"


def _remote_of_run(request: CloudRequest) -> str:
    assert request.output
    return shlex.quote(_name(request.output) + f"/{request.name}")


def _remote(bucket: Location) -> str:
    return shlex.quote(_name(bucket))


def _name(bucket: Location) -> str:
    return REMOTES[bucket.kind] + "/".join(filter(None, (bucket.name, bucket.path)))
