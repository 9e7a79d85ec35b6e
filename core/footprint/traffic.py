"""What TCP connections have carried, TLS included, by the kernel's own counters (sock_diag(7), inet_diag, tcp_info)."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_DONE, _ERROR = 3, 2
_HEAD: Final = struct.Struct("=IHHII")
_ASK: Final = struct.Struct("=BBBxI48x")
_TCP_INFO: Final = 2
_ESTABLISHED_AND_CLOSING: Final = 0xFFF & ~(1 << 10 | 1 << 6)
"""All states but LISTEN and TIME_WAIT."""
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")
HEADERS: Final = {socket.AF_INET: 52, socket.AF_INET6: 72}
"""Bytes of IP and TCP with timestamps before the payload of a segment."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`sent` and `received` are payload bytes since it was opened; `wire` adds what segments, acknowledgements too, have as headers."""

    local: tuple[str, int]
    peer: tuple[str, int]
    sent: int
    received: int
    wire: int


def connections() -> dict[int, Connection]:
    """Every TCP connection of this network namespace by the inode of its socket; nothing where the kernel does not tell."""
    found: dict[int, Connection] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            found.update(_dump(family))
    return found


def _dump(family: socket.AddressFamily) -> Iterator[tuple[int, Connection]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as link:
        link.settimeout(5.0)
        body = _ASK.pack(family, socket.IPPROTO_TCP, 1 << (_TCP_INFO - 1), _ESTABLISHED_AND_CLOSING)
        link.send(_HEAD.pack(_HEAD.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body)
        while True:
            data = memoryview(link.recv(1 << 18))
            while len(data) >= _HEAD.size:
                length, kind, *_ = _HEAD.unpack_from(data)
                if kind in (_DONE, _ERROR) or length < _HEAD.size:
                    return
                entry = _connection(family, bytes(data[_HEAD.size : length]))
                if entry is not None:
                    yield entry
                data = data[(length + 3) & ~3 :]


def _connection(family: socket.AddressFamily, message: bytes) -> tuple[int, Connection] | None:
    """Of one inet_diag_msg: head, addresses, counters, then attributes."""
    if len(message) < 72:
        return None
    ports = struct.unpack_from(">HH", message, 4)
    width = 4 if family is socket.AF_INET else 16
    ends = [socket.inet_ntop(family, message[start : start + width]) for start in (8, 24)]
    inode = struct.unpack_from("=I", message, 68)[0]
    position = 72
    while position + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, position)
        if kind == _TCP_INFO and length >= 4 + 144:
            acked, received = struct.unpack_from("=QQ", message, position + 4 + 120)
            segments = sum(struct.unpack_from("=II", message, position + 4 + 136))
            wire = acked + received + segments * HEADERS[family]
            return inode, Connection((ends[0], ports[0]), (ends[1], ports[1]), acked, received, wire)
        position += max((length + 3) & ~3, 4)
    return None


def inodes(pid: int, proc: Path = Path("/proc")) -> set[int]:
    """Of the sockets a process holds. Raises OSError when it is gone or not ours to look at."""
    found = set()
    for entry in (proc / str(pid) / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            match = _SOCKET.fullmatch(str(entry.readlink()))
            if match is not None:
                found.add(int(match[1]))
    return found


def outward(agent: set[int], inside: set[int], known: Mapping[int, Connection]) -> dict[int, Connection]:
    """The agent's connections that leave the node: those whose other end is not held by a process of the node, such as its broker."""
    own_ends = {known[each].local for each in inside | agent if each in known}
    return {each: known[each] for each in agent if each in known and known[each].peer not in own_ends}
