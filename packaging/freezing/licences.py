"""The licences of everything in a tree, and an index of them made from the packages themselves. Runs in the target's root.

A file is of the wheel whose RECORD lists it, or of the Debian package that owns it; one that is of neither stops the freeze.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

_TERMS: Final = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_COMMON: Final = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]+[A-Za-z0-9+])")


@dataclass(slots=True)
class Component:
    """One package that something in the tree is from. `source` tells where its source is to be had."""

    name: str
    version: str
    licence: str
    source: str
    texts: list[Path] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class Licences:
    """Collects components. `root` is the root of the distribution, `owners` its paths and packages, `site` the folder of the wheels."""

    def __init__(self, root: Path, owners: dict[str, list[str]], site: Path) -> None:
        self._root = root
        self._owners = {self._plain(path): package for path, package in owners.items()}
        self._of_wheels: dict[Path, Distribution] = {}
        for each in distributions(path=[str(site)]):
            for file in each.files or ():
                self._of_wheels[Path(str(each.locate_file(file))).resolve()] = each
        self._found: dict[str, Component] = {}

    @staticmethod
    def _plain(path: str) -> str:
        """/lib and /usr/lib are the same place on every system that came after."""
        return re.sub(r"^/usr/(lib|bin|sbin)/", r"/\1/", path)

    def add(self, inside: str, source: Path) -> None:
        """The file `inside` the tree was made from `source`. SystemExit when nobody knows whose that is."""
        real = source.resolve()
        wheel = self._of_wheels.get(real)
        if wheel is not None:
            self._wheel(wheel).files.append(inside)
            return
        package = self._owners.get(self._plain(str(source))) or self._owners.get(self._plain(str(real)))
        if package is None:
            raise SystemExit(f"{source}: of which package is it, and what is its licence?")
        self.package(package).files.append(inside)

    def package(self, facts: list[str]) -> Component:
        """A Debian package: its name, version, source and source's version."""
        name, version, source, source_version = facts
        copyright_file = self._root / "usr/share/doc" / name / "copyright"
        text = copyright_file.read_text(errors="replace")
        terms = sorted(set(_TERMS.findall(text))) if text.startswith("Format:") else ["PSF-2.0 and others"] if "python" in name else []
        origin = f"Debian source package {source} {source_version}"
        return self._found.setdefault(name, Component(name, version, ", ".join(terms) or "see its text", origin, [copyright_file]))

    def named(self, package: str) -> Component:
        """The Debian package of that name, which files of the tree were made from."""
        return self.package(next(each for each in self._owners.values() if each[0] == package))

    def other(self, component: Component) -> None:
        self._found.setdefault(component.name, component)

    def _wheel(self, wheel: Distribution) -> Component:
        facts = wheel.metadata
        name = facts["Name"]
        terms = next((facts[key].partition("\n")[0] for key in ("License-Expression", "License") if key in facts), "")
        if not terms:
            said = [each.rpartition(":: ")[2] for each in facts.get_all("Classifier") or () if each.startswith("License ::")]
            terms = ", ".join(said) or "see its text"
        texts = [Path(str(wheel.locate_file(each))) for each in wheel.files or () if _is_licence(str(each))]
        return self._found.setdefault(name, Component(name, facts["Version"], terms, f"Python package {name} {facts['Version']}", texts))

    def write(self, folder: Path) -> list[Path]:
        """INDEX, index.json and the texts; what they refer to in common-licenses as well. The files written."""
        folder.mkdir(parents=True)
        common: set[str] = set()
        entries = []
        for each in sorted(self._found.values(), key=lambda each: each.name.lower()):
            place = folder / each.name
            place.mkdir()
            for number, text in enumerate(sorted(each.texts)):
                name = text.name if not (place / text.name).exists() else f"{number}-{text.name}"
                shutil.copyfile(text, place / name)
                common |= set(_COMMON.findall(text.read_text(errors="replace")))
            entries.append(
                {"name": each.name, "version": each.version, "licence": each.licence, "source": each.source, "files": sorted(each.files)}
            )
        for name in sorted(common):
            text = self._root / "usr/share/common-licenses" / name
            if text.exists():
                (folder / "common").mkdir(exist_ok=True)
                shutil.copyfile(text, folder / "common" / name)
        (folder / "index.json").write_text(json.dumps(entries, indent=1) + "\n")
        lines = [f"{each['name']} {each['version']}: {each['licence']}\n    {each['source']}\n" for each in entries]
        (folder / "INDEX").write_text(
            "What this build of Pinnace contains, under which licences; the texts are beside this file.\n\n" + "".join(lines)
        )
        return sorted(each for each in folder.rglob("*") if each.is_file())


def _is_licence(path: str) -> bool:
    name = path.rpartition("/")[2].upper()
    return ".dist-info/" in path and name.startswith(("LICEN", "COPYING", "NOTICE", "AUTHORS"))


def of_files(licences: Licences, files: Iterable[tuple[str, Path]]) -> None:
    for inside, source in files:
        licences.add(inside, source)
