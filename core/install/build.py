"""The frozen build that this process runs from, in either shape: the files of its tree, and what it says of itself."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pinnace.core.base.errors import ConfigError
from pinnace.core.install.manifest import Manifest

RELEASE: Final = "lib/release.json"


@dataclass(frozen=True, slots=True)
class Release:
    """`schema` is the newest of the database that this build can read; `commit` what it was made from."""

    version: str
    arch: str
    schema: int
    commit: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ConfigError when it is missing or not one."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(told["version"]), str(told["arch"]), int(told["schema"]), str(told.get("commit", "")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: does not tell what this version of Pinnace is ({error}); install it again") from error


class Build:
    """`contents` is what a tree has as lib/, `program` what it has as pinnace."""

    def __init__(self, contents: Path, program: Path) -> None:
        self._contents = contents
        self._program = program
        self.release = Release.read(contents / "release.json")
        self.manifest = Manifest.read(contents / "manifest")

    @classmethod
    def own(cls) -> Self:
        """Raises ConfigError when this is no frozen build."""
        if not getattr(sys, "frozen", False):
            raise ConfigError(
                "this is a checkout, there is nothing to install; `make freeze` makes what can be (dist/), and that has this command"
            )
        contents = Path(sys._MEIPASS)  # type: ignore[attr-defined]  # PyInstaller's name
        packed = contents / "program"
        return cls(contents, packed if packed.exists() else Path(sys.executable))

    @classmethod
    def of(cls, tree: Path) -> Self:
        """Of a tree on this machine."""
        return cls(tree / "lib", tree / "pinnace")

    def file(self, path: str) -> Path:
        """Where the tree's file of that path is now."""
        return self._program if path == "pinnace" else self._contents / path.removeprefix("lib/")
