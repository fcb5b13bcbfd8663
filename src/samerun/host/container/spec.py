"""One container as data; its command line is a pure function of it."""

import csv
import io
from dataclasses import dataclass, field

from samerun.core import contract
from samerun.core.placement import ALONE, NodePlacement
from samerun.core.record import Launch, Mount

PIDS_LIMIT = 4096


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """Everything that is passed to the engine for one container."""

    run: str
    image: str
    user: str
    target: str
    arguments: tuple[str, ...]
    procs: int
    seed: int
    shm_size: str
    mounts: tuple[Mount, ...]
    environment: dict[str, str] = field(default_factory=dict)
    gpus: str | None = None
    network: str | None = None
    pids_limit: int = PIDS_LIMIT
    memory: str | None = None
    docker_args: tuple[str, ...] = ()
    place: NodePlacement = ALONE
    entrypoint: str | None = None
    workdir: str | None = None
    detach: bool = True

    def argv(self) -> list[str]:
        """Return the complete command; it contains no secrets."""
        return ["docker", "run", *self._isolation(), *self._resources(), *self._inside()]

    def launch(self) -> Launch:
        """Return the part that a later start reuses, for the record."""
        return Launch(
            target=self.target,
            arguments=self.arguments,
            ranks=self.procs * self.place.count,
            network=self.network,
            environment=dict(sorted(self.environment.items())),
            mounts=self.mounts,
            memory=self.memory,
            pids_limit=self.pids_limit,
            docker_args=self.docker_args,
        )

    def _isolation(self) -> list[str]:
        return [
            "--detach" if self.detach else "--rm",
            "--pull=never",
            f"--name=samerun-{self.run}",
            f"--label={contract.LABEL_RUN}={self.run}",
            # PID 1 must reap processes and forward signals; Python as PID 1 ignores SIGTERM.
            "--init",
            f"--user={self.user}",
            "--read-only",
            "--cap-drop=ALL",
            # The engine's default seccomp profile applies; naming one could only weaken it.
            "--security-opt=no-new-privileges",
            "--ipc=private",
            f"--pids-limit={self.pids_limit}",
            f"--stop-timeout={contract.STOP_TIMEOUT_S}",
            # A readable driver, regardless of the engine's default.
            "--log-driver=local",
        ]

    def _resources(self) -> list[str]:
        argv = ["--tmpfs=/tmp:rw,nosuid,nodev,mode=1777", f"--shm-size={self.shm_size}"]
        # The same value means no swap, so that a run can't slow down the host.
        argv += [f"--memory={self.memory}", f"--memory-swap={self.memory}"] if self.memory else []
        argv += [f"--gpus={self.gpus}"] if self.gpus else []
        argv += [f"--network={self.network}"] if self.network else []
        argv += [f"--workdir={self.workdir}"] if self.workdir else []
        argv += [f"--mount={mount_option(mount)}" for mount in self.mounts]
        argv += [f"--env={k}={v}" for k, v in sorted(self.environment.items())]
        return [*argv, *self.docker_args]

    def _inside(self) -> list[str]:
        if self.entrypoint:
            return [f"--entrypoint={self.entrypoint}", self.image, *self.arguments]
        options = ["--procs", str(self.procs), "--seed", str(self.seed)]
        return [self.image, *options, *self.place.argv(), self.target, *self.arguments]


def own_variables(*, has_key: bool) -> dict[str, str]:
    """Return the variables of a container started by the host that don't depend on `Facts`."""
    key = {"NETRC": contract.NETRC} if has_key else {}
    return {contract.ENV_RECORD: f"{contract.OUTPUT}/{contract.RECORD}", **key}


def mount_option(mount: Mount) -> str:
    """Return Docker's ``--mount`` value, as CSV, so that paths may contain commas."""
    fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(
        [*fields, *(["readonly"] if mount.read_only else [])]
    )
    return buffer.getvalue()
