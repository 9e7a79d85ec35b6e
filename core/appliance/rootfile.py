"""The file of a root: a squashfs with a seal behind it, which says what it is and what its digest must be.

Layout: squashfs, padded to 4096 bytes; one block of 4096 bytes, JSON padded with blanks:
`{"pinnace": "root", "version": "0.1.0", "size": <bytes before the seal>, "sha256": "<of those>"}`. The digest finds
damage; whom the file comes from must be made sure by the way it came (HTTPS, `--sha256`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pinnace.core.base.errors import ConfigError, RefusedError

BLOCK: Final = 4096
_CHUNK: Final = 1 << 20
_SQUASHFS: Final = b"hsqs"
_FORGET_CACHE: Final = 0x1261  # BLKFLSBUF (linux/fs.h)


class Seal(NamedTuple):
    version: str
    size: int
    sha256: str

    def packed(self) -> bytes:
        text = json.dumps({"pinnace": "root", "version": self.version, "size": self.size, "sha256": self.sha256})
        return text.encode().ljust(BLOCK - 1) + b"\n"


def seal(path: Path, version: str) -> Seal:
    """Seal a bare squashfs. Raises RefusedError for what is none."""
    with path.open("rb+") as file:
        size = _padded(file.read(96))
        file.truncate(size)
        file.seek(0)
        found = Seal(version, size, hashlib.file_digest(file, "sha256").hexdigest())
        file.seek(size)
        file.write(found.packed())
    return found


def parse(block: bytes) -> Seal:
    """Raises RefusedError."""
    try:
        found = json.loads(block)
        if found["pinnace"] == "root" and re.fullmatch(r"[0-9a-f]{64}", found["sha256"]) and found["size"] >= BLOCK:
            return Seal(str(found["version"]), int(found["size"]), found["sha256"])
    except (ValueError, KeyError, TypeError):
        pass
    raise RefusedError(
        "this is no whole root of Pinnace (its seal is missing); take the file pinnace-VERSION.root of a release, and all of it"
    )


def write(source: BinaryIO, target: Path, *, sha256: str = "", progress: Callable[[int], None] = lambda done: None) -> Seal:
    """Write a sealed root to a partition (or file) while it is read, then read it back from there and compare. `sha256` is what the whole
    file, seal included, must have. Raises RefusedError (not whole, not what was asked for), ConfigError (no room), OSError."""
    whole = hashlib.sha256()
    with target.open("rb+", buffering=0) as out:
        room = out.seek(0, os.SEEK_END)
        out.seek(0)
        first = _read(source, _CHUNK)
        size = _padded(first)
        if room and stat.S_ISBLK(target.stat().st_mode) and size + BLOCK > room:
            raise ConfigError(
                f"this root has {size / 1e6:.0f} MB, the partition for it {room / 1e6:.0f} MB; a newer image must be written to the card"
            )
        done, tail, synced = 0, b"", 0
        for chunk in _chunks(source, first):
            if done + len(chunk) > size + BLOCK:
                raise RefusedError(f"the file goes on behind its end at {size + BLOCK} bytes; fetch it again")
            whole.update(chunk)
            out.write(chunk)
            done += len(chunk)
            tail = (tail + chunk)[-BLOCK:]
            if done - synced >= 8 * _CHUNK:
                os.fsync(out.fileno())
                synced = done
                progress(done)
        os.fsync(out.fileno())
        if done != size + BLOCK:
            raise RefusedError(f"the file ended after {done} of {size + BLOCK} bytes; fetch it again")
        found = parse(tail)
        if found.size != size or (sha256 and whole.hexdigest() != sha256.lower()):
            raise RefusedError("the file is not the one that --sha256 names" if sha256 else "the file and its seal do not belong together")
        if stat.S_ISBLK(target.stat().st_mode):
            fcntl.ioctl(out.fileno(), _FORGET_CACHE, 0)
    if digest(target, size) != found.sha256:
        raise RefusedError(
            "what was read back is not what the seal says: the file is damaged, or the card is; fetch it again, then try another card"
        )
    return found


def look(path: Path) -> Seal:
    """The seal of a file that is here whole. Raises RefusedError, OSError."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - BLOCK))
        return parse(file.read())


def digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes."""
    found, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (chunk := file.read(min(left, _CHUNK))):
            found.update(chunk)
            left -= len(chunk)
    return found.hexdigest()


def _chunks(source: BinaryIO, first: bytes) -> Iterator[bytes]:
    while first:
        yield first
        first = _read(source, _CHUNK)


def _read(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer at the end only."""
    found = b""
    while len(found) < size and (chunk := source.read(size - len(found))):
        found += chunk
    return found


def _padded(head: bytes) -> int:
    """The length of a squashfs by its superblock, rounded up to whole blocks (Linux, fs/squashfs)."""
    if head[:4] != _SQUASHFS or len(head) < 96:
        raise RefusedError("this is no root of Pinnace; take the file pinnace-VERSION.root of a release")
    (used,) = struct.unpack_from("<Q", head, 40)
    return -(-int(used) // BLOCK) * BLOCK
