"""Reading log files as runtimes write them (CRI: `<RFC 3339 time> stdout|stderr F|P <text>`), with those that were rotated away.

Blocking; `logs.py` calls it in a thread.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from pinnace.core.base.containerlogs import PACKED, rotated

_BLOCK: Final = 64 << 10
_LINE_BYTES: Final = 1 << 20
"""A longer line is passed on in pieces."""
_NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which lines. `tail` None is all, `since` Unix nanoseconds, `limit` bytes of the answer, `streams` of stdout and stderr."""

    follow: bool = False
    tail: int | None = None
    since: int = 0
    timestamps: bool = False
    limit: int | None = None
    streams: frozenset[bytes] = field(default=frozenset({b"stdout", b"stderr"}))


_MOMENT: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def nanos(text: str) -> int:
    """An RFC 3339 moment in Unix nanoseconds. Raises ValueError."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError("expected an RFC 3339 time such as 2024-01-31T12:00:00Z")
    seconds = calendar.timegm(tuple(int(each) for each in found.groups()[:6]))
    zone = found[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
        seconds += -offset if zone[0] == "+" else offset
    return seconds * _NANO + int((found[7] or "").ljust(9, "0"))


class LogReader:
    """The lines of one container's log, formatted; `read` gives what is there and b"" when there is no more for now."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        self._path = path
        self._options = options
        self._left = options.limit
        self._is_inside = False  # of a line whose end is still to come
        self._rest = b""
        self._file: IO[bytes] | None = None
        self._waiting: list[Path] = []
        self._inode = 0
        self._skip = 0
        self._begin()

    @property
    def is_full(self) -> bool:
        """The limit is reached: nothing more will come."""
        return self._left == 0

    def read(self) -> bytes:
        """Up to about 64 KiB of text. Raises OSError."""
        while not self.is_full:
            if self._file is None and not self._next_file():
                return b""
            assert self._file is not None
            block = self._file.read(_BLOCK)
            if block:
                text = self._format(block)
                if text:
                    return text
                continue
            if self._waiting:
                self._close_file()
            elif not self._was_replaced():
                return b""
        return b""

    def flush(self) -> bytes:
        """The last line where it has no end: for when nobody writes any more."""
        rest, self._rest = self._rest, b""
        return self._format(rest + b"\n") if rest else b""

    def close(self) -> None:
        self._close_file()

    def _begin(self) -> None:
        """Find where to start: at the oldest file, or so far from the end as `tail` says."""
        files = [*rotated(self._path), self._path]
        wanted = self._options.tail
        if wanted is None:
            self._waiting = files
            return
        chosen: list[Path] = []
        for path in reversed(files):
            chosen.insert(0, path)
            count = _lines(path)
            if count >= wanted:
                self._skip = count - wanted
                break
            wanted -= count
        self._waiting = chosen

    def _next_file(self) -> bool:
        """Open the next of the files still to be read; the last of them may be yet to come."""
        while True:
            path = self._waiting[0]
            try:
                self._file = _open(path)
            except FileNotFoundError:
                if len(self._waiting) == 1:
                    return False
            else:
                self._inode = os.fstat(self._file.fileno()).st_ino
            del self._waiting[0]
            if self._file is not None:
                return True

    def _was_replaced(self) -> bool:
        """Whether the file was rotated away or cut short; then the next read goes on with what follows it."""
        assert self._file is not None
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if now.st_ino == self._inode:
            if now.st_size < self._file.tell():
                self._file.seek(0)
                self._rest = b""
                return True
            return False
        if more := self._file.read(_BLOCK):  # written between our last look and the renaming
            self._file.seek(-len(more), os.SEEK_CUR)
            return True
        self._waiting = self._successors()
        self._close_file()
        return True

    def _successors(self) -> list[Path]:
        """The files after ours: rotated meanwhile, and the present one."""
        files = [*rotated(self._path), self._path]
        for index, path in enumerate(files):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == self._inode:
                    return files[index + 1 :]
        return [self._path]

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _format(self, block: bytes) -> bytes:
        lines = (self._rest + block).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        out = [self._line(line) for line in lines]
        text = b"".join(out)
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _line(self, line: bytes) -> bytes:
        """What is shown of one entry."""
        if self._skip > 0:
            self._skip -= 1
            return b""
        parts = line.split(b" ", 3)
        if len(parts) < 3:
            return b""
        moment, stream, tag = parts[0], parts[1], parts[2]
        if stream not in self._options.streams:
            return b""
        if self._options.since and not self._is_recent(moment):
            return b""
        text = parts[3] if len(parts) > 3 else b""
        prefix = _fixed(moment) + b" " if self._options.timestamps and not self._is_inside else b""
        self._is_inside = tag.split(b":")[0] == b"P"
        return prefix + text + (b"" if self._is_inside else b"\n")

    def _is_recent(self, moment: bytes) -> bool:
        try:
            return nanos(moment.decode("ascii")) >= self._options.since
        except ValueError:
            return True


def _open(path: Path) -> IO[bytes]:
    """A rotated file may have been compressed since its name was read."""
    if path.suffix != PACKED:
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb", buffering=0)
        path = path.with_name(path.name + PACKED)
    import gzip

    return gzip.open(path, "rb")  # type: ignore[return-value]  # it reads and closes as one


def _lines(path: Path) -> int:
    count = 0
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                count += block.count(b"\n")
    except FileNotFoundError:
        return 0
    return count


def _fixed(moment: bytes) -> bytes:
    """The time with nine digits of a second, as the kubelet shows it."""
    found = _MOMENT.fullmatch(moment.decode("ascii", "replace"))
    if found is None:
        return moment
    return f"{moment[:19].decode()}.{(found[7] or '').ljust(9, '0')}{found[8]}".encode()
