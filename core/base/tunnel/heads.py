"""Heads of HTTP/1.1 messages as the tunnel carries them (RFC 9112): parsed once, written once. One exchange a connection, no keep-alive."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from pinnace.core.base.tunnel.duplex import Duplex
from pinnace.core.base.tunnel.frames import Opening

HEAD_BYTES: Final = 64 << 10
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """Of a request or an answer: the words of its first line, and its headers as they came."""

    first: tuple[str, str, str]
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The first value of a header, "" when it is not there."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        """Every value of a header, lists split at commas."""
        found = (value for key, value in self.headers if key.lower() == name.lower())
        return [word.strip() for value in found for word in value.split(",") if word.strip()]

    @property
    def status(self) -> int:
        return int(self.first[1])

    @property
    def is_upgrade(self) -> bool:
        return "upgrade" in (each.lower() for each in self.all("Connection")) and bool(self.get("Upgrade"))

    @property
    def opening(self) -> Opening:
        """A request's head as what opens a channel. The path is decoded, as Go's url.URL has it."""
        path, _, query = self.first[1].partition("?")
        return Opening(self.first[0], unquote(path), query, self.headers)


def head_of(opening: Opening) -> Head:
    """The request that an opening describes."""
    return Head((opening.method, opening.target, "HTTP/1.1"), opening.headers)


def encode(head: Head) -> bytes:
    lines = [" ".join(head.first), *(f"{name}: {value}" for name, value in head.headers), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def answer_head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """An answer's head."""
    return encode(Head(("HTTP/1.1", str(status), HTTPStatus(status).phrase), headers))


def parse(data: bytes) -> Head:
    """A head with or without the empty line behind it. Raises ValueError."""
    first, *rest = data.removesuffix(_END).decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    is_answer = words[0].startswith("HTTP/1.")
    if len(words) < 2 or not all(words[:2]) or (is_answer and not words[1].isdigit()) or (not is_answer and len(words) != 3):
        raise ValueError("no HTTP message")
    headers = []
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError("a header cannot be read")
        headers.append((name, value.strip()))
    return Head((words[0], words[1], words[2] if len(words) > 2 else ""), tuple(headers))


async def read_head(duplex: Duplex) -> tuple[Head, bytes]:
    """The next head, and what was read beyond it. Raises ValueError for what is no HTTP, EOFError when it ends before."""
    data = b""
    while _END not in data:
        if len(data) > HEAD_BYTES:
            raise ValueError(f"a head of more than {HEAD_BYTES} bytes")
        more = await duplex.read()
        if not more:
            raise EOFError("the connection ended within the head")
        data += more
    head, _, rest = data.partition(_END)
    return parse(head), rest
