"""Choosing TCP ports: the usual one where it is free, another one, said aloud, where it is not."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass

ANY = "0.0.0.0"  # noqa: S104 - only when a person asked for it with --advertise
LOOPBACK = "127.0.0.1"
MQTT_PORT = 1883
TUNNEL_PORT = 10004

# An MQTT 3.1.1 CONNECT without a client id, and the first byte of the answer (OASIS MQTT 3.1.1, 3.1 and 3.2).
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
_CONNACK = 0x20


@dataclass(frozen=True, slots=True)
class Ports:
    """The TCP ports of one system. `link` is where the edge finds the hub: the hub's own, or the relay's before it."""

    mqtt: int = 0
    api: int = 0
    hub: int = 0
    bootstrap: int = 0
    conversion: int = 0
    tunnel: int = 0
    streams: int = 0
    read_only: int = 0
    link: int = 0


def listen_address(advertise: str) -> str:
    """Where cloudcore listens: on loopback, unless other machines are to reach it."""
    return ANY if advertise and not ipaddress.ip_address(advertise).is_loopback else LOOPBACK


class Chooser:
    """Gives out ports of one machine, none twice."""

    def __init__(self, say: Callable[[str], None], *, usual: bool = True) -> None:
        """With `usual` false every port is a free one, and nothing is said."""
        self._say = say
        self._usual = usual
        self._given: set[int] = set()

    def choose(self, what: str, usual: int, address: str = LOOPBACK) -> int:
        """`usual` if nobody has it, else a free one."""
        if self._usual and usual not in self._given and is_free(usual, address):
            self._given.add(usual)
            return usual
        port = free_port(address)
        while port in self._given:
            port = free_port(address)
        self._given.add(port)
        if self._usual:
            self._say(f"port {usual} is busy: {what} takes {port}")
        return port


def is_free(port: int, address: str = LOOPBACK) -> bool:
    """Whether a server could listen there now. Another one on all addresses counts as well."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((address, port))
            return True
    return False


def is_own(address: str) -> bool:
    """Whether this machine has the address."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


def free_port(address: str = LOOPBACK) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def is_broker(port: int) -> bool:
    """Whether an MQTT broker that takes anonymous clients answers on this port of loopback."""
    try:
        with socket.create_connection((LOOPBACK, port), 1.0) as probe:
            probe.sendall(_CONNECT)
            answer = probe.recv(4)
    except OSError:
        return False
    return len(answer) == 4 and answer[0] == _CONNACK and answer[3] == 0
