"""
The network of a run: none where it needs none, else a bridge that leads outward only.

On the bridge no container reaches another one. Where we are root, packet filter rules
keep runs from this host's own services and from the cloud's metadata service too.
"""

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core.errors import UsageError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.networks import Network

NAME = "samerun"
BRIDGE = "samerun0"
NONE = "none"
CHAIN = "SAMERUN"
_ICC = "com.docker.network.bridge.enable_icc"
OPTIONS = {_ICC: "false", "com.docker.network.bridge.name": BRIDGE}
# Where clouds tell a machine its credentials: AWS, Google, Azure and others; Azure's
# agent; Alibaba. Name servers may stand at the same addresses.
METADATA = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32")

# Absent without the kernel module br_netfilter.
NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the packet filter: *chain* and what follows."""

    chain: str
    match: tuple[str, ...]

    def argv(self, action: str) -> list[str]:
        """Return the command that appends (A), inserts (I), checks (C) or deletes (D) it."""
        return ["iptables", "--wait", "5", f"-{action}", self.chain, *self.match]


# What a run may still send there: answers to who called it, and questions for names.
ALLOW = (
    Rule(
        chain=CHAIN,
        match=("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN"),
    ),
    Rule(chain=CHAIN, match=("-p", "udp", "--dport", "53", "-j", "RETURN")),
    Rule(chain=CHAIN, match=("-p", "tcp", "--dport", "53", "-j", "RETURN")),
    Rule(chain=CHAIN, match=("-j", "REJECT")),
)
JUMPS = (
    # To the host itself, and through it to the metadata service.
    Rule(chain="INPUT", match=("-i", BRIDGE, "-j", CHAIN)),
    *(
        Rule(chain="DOCKER-USER", match=("-i", BRIDGE, "-d", address, "-j", CHAIN))
        for address in METADATA
    ),
)


def choose(asked: str | None, *, none: bool, online: bool, downloads: bool) -> str:
    """
    Return the network of a run.

    Args:
        asked: The user's own choice, a network's name.
        none: ``--no-network``.
        online: W&B is to be reached.
        downloads: The training may fetch something else: scripts may, recipes say so.
    """
    if none:
        return NONE
    if asked:
        return asked
    return NAME if online or downloads else NONE


def ensure(client: "DockerClient") -> None:
    """
    Make the network of runs if it is not there yet.

    Raises:
        UsageError: A network of that name lets containers talk to each other.
    """
    found = _find(client) or _create(client)
    if (found.attrs.get("Options") or {}).get(_ICC) != "false":
        raise UsageError(
            f"The Docker network {NAME!r} is not ours: containers on it reach each other.",
            f"Remove it (`docker network rm {NAME}`), or choose one by --network.",
        )


def _find(client: "DockerClient") -> "Network | None":
    return next((n for n in client.networks.list(names=[NAME]) if n.name == NAME), None)


def _create(client: "DockerClient") -> "Network":
    from docker.errors import APIError

    try:
        client.networks.create(NAME, driver="bridge", options=OPTIONS, check_duplicate=True)
    except APIError as error:
        # Another run may have been quicker.
        if (found := _find(client)) is not None:
            return found
        raise UsageError(
            f"The network of runs can't be made: {error.explanation}.",
            "Choose another by --network (bridge is Docker's own), or use --no-network.",
        ) from error
    found = _find(client)
    if found is None:
        raise UsageError(f"The network {NAME} vanished.", "Try again.")
    return found


def separates() -> bool:
    """Whether the kernel shows a bridge's own traffic to the packet filter, as ICC needs."""
    try:
        return NETFILTER.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def is_shielded() -> bool:
    """Whether the rules are there; only root can ask."""
    return all(_call(jump.argv("C")) for jump in JUMPS)


def script() -> str:
    """Return the shell commands that make the rules, however many of them are there."""
    commands = [shlex.join(rule.argv("A")) for rule in ALLOW]
    commands += [f"{{ {shlex.join(j.argv('C'))} || {shlex.join(j.argv('I'))}; }}" for j in JUMPS]
    fresh = f"{{ iptables --wait 5 -N {CHAIN} || iptables --wait 5 -F {CHAIN}; }} 2>/dev/null"
    return " && ".join([fresh, *commands])


def shield() -> bool:
    """
    Keep runs from the host's own services and the metadata service; False where we can't.

    That needs root. The rules name our own bridge only, and last until the next restart.
    """
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    return is_shielded() or _call(["sh", "-c", script()])


def _call(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
