"""What a build is made of: a frozen tree or a one-file program, by package and extension (PyInstaller's CArchive and PYZ formats).

Sizes are bytes as they lie in the build: modules inside an archive count compressed."""

from __future__ import annotations

import marshal
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from pinnace.core.base.errors import ConfigError
from pinnace.core.footprint.mappings import Part, part_of

_COOKIE: Final = struct.Struct("!8sIIII64s")
_MAGIC: Final = b"MEI\014\013\012\013\016"
_ENTRY: Final = struct.Struct("!IIIIBc")
_INSIDE: Final = ("_internal", "lib")
"""Where PyInstaller puts what is not the program."""
_BROUGHT: Final = ("bin", "cni")
"""Where programs of others are in it: crun, the broker, openssl, network plugins."""
_TAIL_BYTES: Final = 8192
_PACKAGE_DEPTH: Final = 3
"""Ours are told apart by so many names, as pinnace.core.pods; others by their first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`kind` is module, extension, library, program, brought along or data; `package` is what it counts for."""

    name: str
    kind: str
    package: str
    size: int


@dataclass(frozen=True, slots=True)
class Build:
    """`size` is all of it on disk, `files` how many."""

    path: Path
    size: int
    files: int
    pieces: list[Piece]

    def by_package(self) -> dict[str, int]:
        return self._sums(lambda piece: piece.package)

    def by_kind(self) -> dict[str, int]:
        return self._sums(lambda piece: piece.kind)

    def extensions(self) -> dict[str, int]:
        return {each.name: each.size for each in self.pieces if each.kind in ("extension", "library")}

    def _sums(self, key: object) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        assert callable(key)
        for each in self.pieces:
            found[key(each)] += each.size
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def read(path: Path) -> Build:
    """A tree, or a program with an archive at its end. Raises ConfigError for anything else."""
    try:
        if path.is_dir():
            return _tree(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            pieces = list(_archive(file, size))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, EOFError, TypeError, struct.error) as error:
        raise ConfigError(f"{path}: is no build of Pinnace ({error}); name a frozen tree or a one-file program") from error
    rest = size - sum(each.size for each in pieces)
    return Build(path, size, 1, [*pieces, Piece(path.name, "program", "(program)", rest)])


def _tree(path: Path) -> Build:
    pieces: list[Piece] = []
    files = [each for each in sorted(path.rglob("*")) if each.is_file() and not each.is_symlink()]
    for each in files:
        size = each.stat().st_size
        inside: list[Piece] = []
        if each.parent == path:
            with each.open("rb") as file:
                try:
                    inside = list(_archive(file, size))
                except (ValueError, EOFError, TypeError, struct.error):
                    inside = []  # another program
        name = str(each.relative_to(path))
        pieces += inside
        if inside:
            pieces.append(Piece(name, "program", "(program)", size - sum(piece.size for piece in inside)))
        else:
            pieces.append(_file(name, size))
    return Build(path, sum(each.stat().st_size for each in files), len(files), pieces)


def _file(name: str, size: int) -> Piece:
    pure = PurePosixPath(name)
    parts = list(pure.parts[1:] if pure.parts[0] in _INSIDE and len(pure.parts) > 1 else pure.parts)
    part = part_of("/_internal/" + "/".join(parts))
    if part in (Part.EXTENSIONS, Part.HOT_PATHS) or (part is Part.TLS and pure.name.startswith("_")):
        module = ".".join([*(each for each in parts[:-1] if not each.startswith(("python3", "lib-dynload"))), pure.name.partition(".")[0]])
        return Piece(module, "extension", package_of(module), size)
    if parts[0] in _BROUGHT and len(parts) > 1:
        return Piece("/".join(parts), "brought along", f"({parts[-1]})", size)
    if part in (Part.LIBRARIES, Part.TLS, Part.INTERPRETER):
        return Piece(pure.name, "library", f"({pure.name.partition('.so')[0]})", size)
    if len(parts) == 1:
        return Piece(name, "program" if "." not in name else "data", "(program)" if "." not in name else "(data)", size)
    if parts[0] == "pinnace" and parts[-1] == "pinnace-shim":
        return Piece(parts[-1], "program", package_of(".".join(parts)), size)
    return Piece("/".join(parts), "data", package_of(".".join(parts)), size)


def package_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "pinnace":
        return ".".join(parts[: min(_PACKAGE_DEPTH, max(len(parts) - 1, 1))])
    return parts[0]


def _archive(file: BinaryIO, size: int) -> Iterator[Piece]:
    """What is appended to a program. Raises ValueError when there is nothing."""
    file.seek(max(size - _TAIL_BYTES, 0))
    tail = file.read()
    at = tail.rfind(_MAGIC)
    if at < 0 or at + _COOKIE.size > len(tail):
        raise ValueError("it has no archive")
    _, length, contents, contents_length, *_ = _COOKIE.unpack_from(tail, at)
    start = max(size - _TAIL_BYTES, 0) + at + _COOKIE.size - length
    if start < 0 or contents + contents_length > length:
        raise ValueError("its archive is cut off")
    file.seek(start + contents)
    table = file.read(contents_length)
    position = 0
    while position < len(table):
        entry, offset, stored, _, _, kind = _ENTRY.unpack_from(table, position)
        if entry < _ENTRY.size:
            raise ValueError("its archive is damaged")
        name = table[position + _ENTRY.size : position + entry].rstrip(b"\0").decode(errors="replace")
        position += entry
        if kind in (b"z", b"Z"):
            yield from _modules(file, start + offset, stored)
        elif kind in (b"b", b"x", b"B"):
            yield _file(name, stored)
        elif kind != b"o":
            yield Piece(name, "module", "(start-up)", stored)


def _modules(file: BinaryIO, start: int, length: int) -> Iterator[Piece]:
    """Of a PYZ: magic, Python's magic, where the table is; the table is marshalled."""
    file.seek(start)
    head = file.read(12)
    if head[:4] != b"PYZ\0":
        raise ValueError("its modules are in an unknown form")
    (table_at,) = struct.unpack("!i", head[8:12])
    file.seek(start + table_at)
    # Read from our own build, as the program itself will when it starts.
    table = marshal.loads(file.read(length - table_at))  # noqa: S302
    for name, (_, _, stored) in dict(table).items():
        yield Piece(str(name), "module", package_of(str(name)), int(stored))
