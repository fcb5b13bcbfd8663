"""
A VM's data and outputs in buckets: rclone brings them there and back.

Everything about the service is a variable of rclone's, and none is in the remote's name:
the name would win, and a machine could not say that its S3 is another than Amazon's.
"""

import shlex
from collections.abc import Mapping

from samerun.core import contract
from samerun.host.cloud.request import CloudRequest, Location
from samerun.host.machine import user

REMOTES: Mapping[str, str] = {"s3": ":s3:", "gs": ":gcs:"}
# The login is the machine's identity, or stands in ACCESS. Without asking for the bucket
# itself, the right to read and write in it is enough, and none is made by a typing error.
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "RCLONE_S3_PROVIDER": "AWS",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    },
    "gs": {
        "RCLONE_GCS_ENV_AUTH": "true",
        "RCLONE_GCS_NO_CHECK_BUCKET": "true",
        # Google refuses ACLs where access is uniform, which it recommends.
        "RCLONE_GCS_BUCKET_POLICY_ONLY": "true",
    },
}
ACCESS = "/etc/samerun/bucket.env"
UPLOAD = "/usr/local/sbin/samerun-upload"
SERVICE, TIMER = "samerun-upload.service", "samerun-upload.timer"
EVERY = "2min"
# A network that is not up yet at boot, a service that is down for minutes.
PATIENTLY = "--retries 10 --retries-sleep 30s"
# Not of the run, or not for another machine: room for the last word, word to stop.
LEFT_OUT = (contract.RESERVE, contract.STOP)


def places(asked: CloudRequest) -> list[Location]:
    """Return the buckets of *asked*."""
    return [place for place in (asked.data, asked.output) if place and place.kind in REMOTES]


def takes_outputs(asked: CloudRequest) -> bool:
    """Whether the run's folder is kept in a bucket."""
    return bool(asked.output and asked.output.kind in REMOTES)


def settings(asked: CloudRequest) -> list[str]:
    """Return the lines of a unit by which rclone knows the service and its login."""
    values = {n: v for place in places(asked) for n, v in VARIABLES[place.kind].items()}
    lines = [f'Environment="{name}={value}"' for name, value in values.items()]
    return [*lines, f"EnvironmentFile=-{ACCESS}"] if values else []


def fetch_data(asked: CloudRequest, folder: str) -> list[str]:
    """Return the shell line that makes *folder* what the data's bucket holds."""
    if not asked.data or asked.data.kind not in REMOTES:
        return []
    return [f"rclone sync {PATIENTLY} {_remote(asked.data)} {folder}"]


def fetch_run(asked: CloudRequest, folder: str) -> list[str]:
    """Return the shell lines by which a machine that is new goes on with its run."""
    if not takes_outputs(asked):
        return []
    # Whole or not at all: half a folder would be taken for the run.
    part = f"{folder}.part"
    owner = f"{user.NONROOT}:{user.NONROOT}"
    return [
        f"if [ ! -d {folder} ]; then",
        f"    rm -rf {part}",
        f"    rclone copy {PATIENTLY} {_remote_of_run(asked)} {part}",
        f"    if [ -f {part}/{contract.RECORD} ]; then",
        f"        chown -R {owner} {part}",
        f"        mv {part} {folder}",
        "    fi",
        "fi",
    ]


def upload(asked: CloudRequest, folder: str, unit: str) -> str:
    """
    Return the script that takes the run's folder to its bucket, at any moment of the run.

    The checkpoints are noted first and sent last: whenever the machine vanishes, logs and
    rows in the bucket reach at least as far as the last checkpoint there, which is what a
    resume needs. Links note them without a copy, since their files never change.
    """
    source, noted = f"{folder}/{contract.CHECKPOINTS}", f"{folder}.noted"
    remote = _remote_of_run(asked)
    left_out = [*(f"/{name}" for name in LEFT_OUT), f"/{contract.CHECKPOINTS}/**"]
    # Files that grow are sent as long as they were.
    copy = ["rclone", "copy", "--local-no-check-updated"]
    copy += [word for name in left_out for word in ("--exclude", name)]
    # Those that the run has dropped are dropped there as well, after the new ones came.
    sync = ["rclone", "sync", "--exclude", ".*.part"]
    lines = [
        "#!/bin/sh",
        f"# Every {EVERY}, and when the run ends; until a whole copy was made after its end.",
        "set -eu",
        # The last copy waits for one that is under way.
        "exec 9>/run/samerun-upload.lock",
        "flock 9",
        f"[ -d {folder} ] || exit 0",
        f"state=$(systemctl is-active {unit} || :)",
        f"rm -rf {noted}",
        f"if [ -d {source} ]; then cp -al {source} {noted}; fi",
        f"{shlex.join(copy)} {folder} {remote}",
        f"if [ -d {noted} ]; then {shlex.join(sync)} {noted} {remote}/{contract.CHECKPOINTS}; fi",
        f"rm -rf {noted}",
        f'case "$state" in inactive | failed) systemctl stop --no-block {TIMER} ;; esac',
    ]
    return "\n".join(lines) + "\n"


def service(asked: CloudRequest) -> str:
    """Return the unit of one upload: what goes wrong in it is no matter of the training's."""
    lines = [
        "[Unit]",
        f"Description=outputs of samerun {asked.name} to their bucket",
        "Wants=network-online.target",
        "After=network-online.target",
        # However often it failed, the next one may come through.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=oneshot",
        'Environment="HOME=/root"',
        *settings(asked),
        f"ExecStart={UPLOAD}",
    ]
    return "\n".join(lines) + "\n"


def timer(asked: CloudRequest) -> str:
    """Return the unit that starts an upload again and again, from the training's start on."""
    lines = [
        "[Unit]",
        f"Description=outputs of samerun {asked.name} to their bucket, every {EVERY}",
        "",
        "[Timer]",
        f"OnActiveSec={EVERY}",
        f"OnUnitInactiveSec={EVERY}",
        "AccuracySec=1s",
    ]
    return "\n".join(lines) + "\n"


def _remote_of_run(asked: CloudRequest) -> str:
    assert asked.output
    return shlex.quote(_name(asked.output) + f"/{asked.name}")


def _remote(place: Location) -> str:
    return shlex.quote(_name(place))


def _name(place: Location) -> str:
    return REMOTES[place.kind] + "/".join(filter(None, (place.name, place.path)))
