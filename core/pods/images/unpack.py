"""Turns a packed layer into an unpacked one that is whole or not there: read as a stream, verified, then renamed into its place.

Only the child process imports this. Formats: OCI image specification, layer.md; POSIX pax and GNU tar.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

import orjson

from pinnace.core.base.files import sync_folder
from pinnace.core.base.folders import remove
from pinnace.core.pods.images.index import StoredLayer
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.tree import Attributes, LayerRefused, Quota, Tree, is_kept, parts_of

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_PIECE: Final = 1 << 18
_HEADER_LIMIT: Final = 1 << 20
"""Of what tarfile reads in one go: a pax header. More is an attack on memory."""
_WINDOW: Final = 1 << 27
_XATTR: Final = "SCHILY.xattr."
_COMMON_DEVICES: Final = {
    "dev/null": (1, 3), "dev/zero": (1, 5), "dev/full": (1, 7), "dev/random": (1, 8), "dev/urandom": (1, 9), "dev/tty": (5, 0),
    "dev/console": (5, 1), "dev/ptmx": (5, 2),
}  # fmt: skip
"""Left out in silence: a container has its own /dev over them."""

_OF_THE_DISK: Final = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.ENOTSUP,
}  # fmt: skip
"""What a layer is not at fault for."""


class Readable(Protocol):
    def read(self, most: int, /) -> bytes: ...


class _Forward:
    """What tarfile reads from: forward only, nothing large at once, no more than the quota; and the digest of it all."""

    def __init__(self, source: Readable, limit: int) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._position = 0
        self._limit = limit

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise LayerRefused("the layer's tar has an entry with a size below zero")
        while self._position < position and self.read(min(_PIECE, position - self._position)):
            pass

    def read(self, most: int) -> bytes:
        if most > _HEADER_LIMIT:
            raise LayerRefused("the layer's tar has a header of more than 1 MiB")
        pieces = []
        while most > 0 and (piece := self._source.read(most)):
            pieces.append(piece)
            most -= len(piece)
            self._position += len(piece)
            self._hash.update(piece)
        if self._position > self._limit:
            raise LayerRefused(f"the image unpacks to more than the {self._limit} bytes that maxImageBytes of builtinRuntime allows")
        return b"".join(pieces)

    def drain(self) -> str:
        """Read the rest; gives the digest of the whole."""
        while self.read(_PIECE):
            pass
        return "sha256:" + self._hash.hexdigest()


class _StrictMember(tarfile.TarInfo):
    """A damaged header ends tarfile's reading in silence; here it is an error."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _StrictMember:
        try:
            return super().fromtarfile(tarfile)
        except (_Invalid, _Truncated) as error:
            raise LayerRefused(f"the layer's tar is damaged: {error}") from error


_Invalid: type[Exception] = tarfile.InvalidHeaderError  # type: ignore[attr-defined]
_Truncated: type[Exception] = tarfile.TruncatedHeaderError  # type: ignore[attr-defined]


class _Decoded:
    """A decoder whose every complaint about its input is a ValueError."""

    def __init__(self, decoder: Readable, complaints: tuple[type[Exception], ...]) -> None:
        self._decoder = decoder
        self._complaints = complaints

    def read(self, most: int, /) -> bytes:
        try:
            return self._decoder.read(most)
        except self._complaints as error:
            raise ValueError(str(error)) from error


def plain(source: IO[bytes]) -> Readable:
    """What is in a file, packed with gzip or zstd or not. Reading raises ValueError for damaged input, OSError for a damaged disk."""
    first = source.read(4)
    source.seek(-len(first), os.SEEK_CUR)
    if first.startswith(b"\x1f\x8b"):
        return _Decoded(gzip.GzipFile(fileobj=source, mode="rb"), (EOFError, zlib.error, gzip.BadGzipFile))
    if first.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(source, read_across_frames=True)
        return _Decoded(reader, (zstandard.ZstdError,))
    return source


def chain_of(diff_ids: Sequence[str]) -> list[str]:
    """What identifies each layer with all that are below it (OCI image specification, config.md, ChainID)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(diff_id if not chains else "sha256:" + hashlib.sha256(f"{chains[-1]} {diff_id}".encode()).hexdigest())
    return chains


@contextlib.contextmanager
def locked(layout: Layout, key: str) -> Iterator[None]:
    """Among all children one holds a key; the kernel lets go when it dies."""
    descriptor = os.open(layout.locks / key.replace(":", "-"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def existing(layout: Layout, chain: str) -> StoredLayer | None:
    """A layer that is there already."""
    for name in _names(chain):
        try:
            found = orjson.loads((layout.layers / name / "layer.json").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            continue
        if found["chain"] == chain:
            return StoredLayer(name, found["size"], found["files"])
    return None


def _names(chain: str) -> Iterator[str]:
    digits = chain.partition(":")[2]
    return (digits[:length] for length in (12, 24, 64))


def add_layer(
    layout: Layout,
    chain: str,
    diff_id: str,
    below: Sequence[StoredLayer],
    *,
    quota: Quota,
    source: Callable[[], contextlib.AbstractContextManager[IO[bytes]]],
) -> StoredLayer:
    """The layer unpacked above those `below` (the lowest first), or found: another child may just have made it. `source` opens the packed
    layer. Durable when it returns. Raises LayerRefused and OSError, and leaves nothing behind then."""
    with locked(layout, chain):
        found = existing(layout, chain)
        if found is not None:
            quota.take(found.size, found.files)
            return found
        name = next(each for each in _names(chain) if not (layout.layers / each).exists())
        work = layout.working(name, os.getpid())
        try:
            (work / "d").mkdir(parents=True)
            before = (quota.bytes_left, quota.files_left)
            with source() as packed:
                unpack(packed, work / "d", [layout.layer(each.name) for each in reversed(below)], diff_id, quota)
            made = StoredLayer(name, before[0] - quota.bytes_left, before[1] - quota.files_left)
            record = {"chain": chain, "diff_id": diff_id, "size": made.size, "files": made.files}
            (work / "layer.json").write_bytes(orjson.dumps(record))
            sync_file_system(work)
            work.rename(layout.layers / name)
            sync_folder(layout.layers)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(work)
            raise
        return made


def unpack(packed: IO[bytes], target: Path, lowers: Sequence[Path], diff_id: str, quota: Quota) -> None:
    """Write the layer below `target`; what is written before a LayerRefused is the caller's to remove."""
    forward = _Forward(plain(packed), quota.limit)
    tree = Tree(target, lowers, quota)
    try:
        with tarfile.TarFile(fileobj=forward, mode="r", tarinfo=_StrictMember, encoding="utf-8", errors="surrogateescape") as tar:  # type: ignore[arg-type]
            while (member := tar.next()) is not None:
                forget(tar)
                try:
                    _put(tree, tar, member)
                except OSError as error:
                    if error.errno in _OF_THE_DISK:
                        raise
                    raise LayerRefused(f"the layer's entry {member.name[:200]!r} cannot be made: {error.strerror}") from error
        tree.finish()
        found = forward.drain()
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise LayerRefused(f"the layer is damaged or cut off: {error}") from error
    finally:
        tree.close()
    if found != diff_id:
        raise LayerRefused(f"the layer's content has the digest {found}, not {diff_id}, which the image's configuration names")


def forget(tar: tarfile.TarFile) -> None:
    """Of a million entries that were read none is needed again."""
    members: list[tarfile.TarInfo] = vars(tar)["members"]
    members.clear()


def _put(tree: Tree, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    parts = parts_of(member.name)
    attributes = Attributes(member.mode & 0o7777, _owner(member.uid), _owner(member.gid), _nanoseconds(member.mtime), _xattrs(member))
    last = parts[-1] if parts else ""
    if last == OPAQUE:
        tree.opaque(parts[:-1])
    elif last.startswith(WHITEOUT * 2):
        pass  # another file system's own bookkeeping
    elif last.startswith(WHITEOUT):
        tree.whiteout((*parts[:-1], last.removeprefix(WHITEOUT)))
    elif member.isdir():
        tree.folder(parts, attributes)
    elif member.isreg():
        tree.file(parts, member.size, _content(tar, member), attributes)
    elif member.issym():
        tree.symlink(parts, member.linkname, attributes)
    elif member.islnk():
        tree.hard_link(parts, parts_of(member.linkname))
    elif member.isfifo():
        tree.fifo(parts, attributes)
    elif member.ischr() and (member.devmajor, member.devminor) == (0, 0):
        tree.whiteout(parts)
    elif member.isdev():
        if not member.ischr() or _COMMON_DEVICES.get("/".join(parts)) != (member.devmajor, member.devminor):
            raise LayerRefused(f"the layer holds the device node '{member.name}', which no image may")
    else:
        raise LayerRefused(f"the layer's tar has an entry '{member.name}' of an unknown kind {member.type!r}")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None
    while piece := stream.read(_PIECE):
        yield piece


def _owner(number: int) -> int:
    if not 0 <= number < (1 << 32) - 1:
        raise LayerRefused(f"the layer's tar has an owner {number}")
    return number


def _nanoseconds(seconds: float) -> int:
    """A moment that every file system can keep."""
    return int(min(max(seconds, 0), (1 << 31) - 1) * 1_000_000_000)


def _xattrs(member: tarfile.TarInfo) -> dict[str, bytes]:
    named = ((key.removeprefix(_XATTR), value) for key, value in member.pax_headers.items() if key.startswith(_XATTR))
    return {name: value.encode("utf-8", "surrogateescape") for name, value in named if is_kept(name)}


def sync_file_system(path: Path) -> None:
    """Everything written to the file system of `path` is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot sync", str(path))
    finally:
        os.close(descriptor)
