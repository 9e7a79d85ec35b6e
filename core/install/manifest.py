"""The list of a tree's files with their digests, made when it is frozen: what `install` copies, checks and repairs by.

One line a file, sorted by path: `<mode> <bytes> <sha256> <path>`, or `link <target> <path>`; mode is octal, paths are relative to the tree.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pinnace.core.base.errors import ConfigError

NAME: Final = "lib/manifest"
"""Where it stands in a tree; the one file that it does not list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a symbolic link when `target` is set. `path` is relative to the tree, `size` in bytes."""

    path: str
    mode: int = 0o644
    size: int = 0
    digest: str = ""
    target: str = ""

    def __str__(self) -> str:
        return f"link {self.target} {self.path}" if self.target else f"{self.mode:o} {self.size} {self.digest} {self.path}"

    def is_intact(self, tree: Path) -> bool:
        """Is the tree's file what the manifest says?"""
        path = tree / self.path
        try:
            if self.target:
                return str(path.readlink()) == self.target
            found = path.lstat()
            return found.st_size == self.size and found.st_mode & 0o7777 == self.mode and digest(path) == self.digest
        except OSError:
            return False


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest:
    """The entries of one tree."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    @property
    def size(self) -> int:
        """Bytes that a tree of it takes, in blocks of 4 KiB."""
        return sum(-(-each.size // 4096) * 4096 for each in self.entries)

    @property
    def digest(self) -> str:
        """SHA-256 over the whole manifest: two trees with the same one are the same."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        return "".join(f"{each}\n" for each in self.entries)

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Raises ConfigError when it is none, or names a path outside of the tree."""
        entries = []
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                if line.startswith("link "):
                    _, target, path = line.split(" ", 2)
                    entry = Entry(path, target=target)
                else:
                    mode, size, told, path = line.split(" ", 3)
                    entry = Entry(path, int(mode, 8), int(size), told)
            except ValueError:
                raise ConfigError(f"{source}:{number}: is no manifest of Pinnace; the download is not whole, fetch it again") from None
            if path.startswith("/") or ".." in path.split("/"):
                raise ConfigError(f"{source}:{number}: names a path outside of its tree")
            entries.append(entry)
        return cls(tuple(entries))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises OSError, and ConfigError when it is none."""
        return cls.parse(path.read_text(encoding="utf-8"), str(path))

    @classmethod
    def of(cls, tree: Path) -> Self:
        """What is in a tree now, itself left out."""
        entries = []
        for folder, names, files in os.walk(tree):
            names.sort()
            for name in sorted([*files, *(each for each in names if Path(folder, each).is_symlink())]):
                path = Path(folder, name)
                inside = path.relative_to(tree).as_posix()
                if path.is_symlink():
                    entries.append(Entry(inside, target=str(path.readlink())))
                elif inside != NAME:
                    found = path.stat()
                    entries.append(Entry(inside, found.st_mode & 0o777, found.st_size, digest(path)))
        return cls(tuple(sorted(entries, key=lambda each: each.path)))
