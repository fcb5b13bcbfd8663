"""The network interface that leads to another node."""

import fcntl
import os
import socket
import struct

from samerun.core.placement import NodePlacement

SIOCGIFADDR = 0x8915


def interface_towards(host: str) -> str | None:
    """
    Return the name of the network interface that leads to *host*; None if none is found.

    By default, gloo and NCCL resolve the machine's own name, for which Debian and Ubuntu have
    127.0.1.1, an address that no other node can reach.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # Sends nothing; the kernel chooses the interface.
            address = probe.getsockname()[0]
    except OSError:
        return None
    return next((name for _, name in socket.if_nameindex() if _ipv4(name) == address), None)


def _ipv4(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            reply = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


def set_interface(nodes: NodePlacement) -> None:
    """Make gloo and NCCL use the interface that leads to node 0, unless the user chose one."""
    name = interface_towards(nodes.address[0])
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if name != "lo":
            # Without =, NCCL takes the name for a prefix: eth1 for eth10.
            os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")
