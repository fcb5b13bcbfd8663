"""
The network of a run: none if it needs none, else a bridge with outgoing access only.

Containers on the bridge can't reach each other. If we are root, packet filter rules also
block access to this host's services and to the cloud's metadata service.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samerun.core import contract
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
# Metadata services, which serve a machine's credentials: AWS, Google, Azure and others;
# Azure's agent; Alibaba. Name servers may have the same addresses.
METADATA = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32")

# Absent without the kernel module br_netfilter.
NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the packet filter: its chain, and the rest of the rule."""

    chain: str
    match: tuple[str, ...]

    def argv(self, action: str) -> list[str]:
        """Return the command that appends (A), inserts (I), checks (C) or deletes (D) it."""
        return ["iptables", "--wait", "5", f"-{action}", self.chain, *self.match]


# Exceptions to the block: replies to incoming connections, and DNS queries.
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
    # Traffic to the host, and through it to the metadata service.
    Rule(chain="INPUT", match=("-i", BRIDGE, "-j", CHAIN)),
    *(
        Rule(chain="DOCKER-USER", match=("-i", BRIDGE, "-d", address, "-j", CHAIN))
        for address in METADATA
    ),
)


def proxies(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the host's proxies without those that contain a login, which is a secret."""
    values = {name: variables.get(name, "") for name in contract.PROXIES}
    return {name: value for name, value in values.items() if value and "@" not in value}


def choose(name: str | None, *, none: bool, online: bool, downloads: bool) -> str:
    """
    Return the network of a run.

    Args:
        name: The network chosen by the user.
        none: ``--no-network``.
        online: The run needs W&B.
        downloads: The training may download something: any script may, a recipe declares it.
    """
    if none:
        return NONE
    if name:
        return name
    return NAME if online or downloads else NONE


def ensure(client: "DockerClient") -> None:
    """
    Create the network of runs if it does not exist.

    Raises:
        UsageError: A network with this name exists that lets containers reach each other.
    """
    network = _find(client) or _create(client)
    if (network.attrs.get("Options") or {}).get(_ICC) != "false":
        raise UsageError(
            f"The Docker network {NAME!r} was not created by samerun: containers on it can reach "
            "each other.",
            f"Remove it (`docker network rm {NAME}`), or choose another with --network.",
        )


def _find(client: "DockerClient") -> "Network | None":
    return next((n for n in client.networks.list(names=[NAME]) if n.name == NAME), None)


def _create(client: "DockerClient") -> "Network":
    from docker.errors import APIError

    try:
        client.networks.create(NAME, driver="bridge", options=OPTIONS, check_duplicate=True)
    except APIError as error:
        # Another run may have created it at the same time.
        if (network := _find(client)) is not None:
            return network
        raise UsageError(
            f"The Docker network {NAME!r} can't be created: {error.explanation}.",
            "Choose another with --network (bridge is Docker's own), or use --no-network.",
        ) from error
    network = _find(client)
    if network is None:
        raise UsageError(
            f"The Docker network {NAME!r} was removed right after its creation.",
            "Run the command again.",
        )
    return network


def separates() -> bool:
    """Whether the kernel filters traffic within a bridge, which isolation requires."""
    try:
        return NETFILTER.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return False


def is_shielded() -> bool:
    """Whether the rules are set; only root can check."""
    return all(_call(jump.argv("C")) for jump in JUMPS)


def script() -> str:
    """Return the shell commands that set the rules, no matter which ones exist already."""
    commands = [shlex.join(rule.argv("A")) for rule in ALLOW]
    commands += [f"{{ {shlex.join(j.argv('C'))} || {shlex.join(j.argv('I'))}; }}" for j in JUMPS]
    fresh = f"{{ iptables --wait 5 -N {CHAIN} || iptables --wait 5 -F {CHAIN}; }} 2>/dev/null"
    return " && ".join([fresh, *commands])


def shield() -> bool:
    """
    Block runs from the host's services and the metadata service; False if that is not possible.

    This requires root. The rules apply to our bridge only, and last until the next reboot.
    """
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    return is_shielded() or _call(["sh", "-c", script()])


def _call(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
