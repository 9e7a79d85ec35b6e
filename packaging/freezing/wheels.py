"""What the edge imports, as wheels for the target's Python: pip takes them for another platform than the one it runs on."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from freezing import fromsource
from freezing.roots import python_version
from freezing.targets import ROOT, STORE, Target, call, kept, say

CONSTRAINTS: Final = ROOT / "packaging" / "constraints.txt"
"""The versions a release is made with: what is frozen today and next month is the same."""


def requirements(target: Target, python: str) -> list[str]:
    """The edge's dependencies of pyproject.toml as they apply on the target, and PyInstaller."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    there = {"platform_machine": target.machine, "python_version": python, "sys_platform": "linux"}
    wanted = [Requirement(text) for text in project["dependencies"]]
    return sorted(
        {f"{each.name}{each.specifier}" for each in wanted if each.marker is None or each.marker.evaluate(there)} | {"pyinstaller"}
    )


def third_party(target: Target, root: Path) -> Path:
    """A folder with all of it, its compiled parts stripped."""
    python = python_version(root)
    wanted = requirements(target, python)
    compiled = {name: each for each in wanted if (name := Requirement(each).name.lower()) in target.compiled}

    def make(folder: Path) -> None:
        say(f"fetching wheels for {target.machine}")
        platforms = [word for tag in target.tags for word in ("--platform", tag)]
        options = ["--only-binary=:all:", "--no-compile", "--no-warn-conflicts", "--python-version", python, "--implementation", "cp"]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--target", folder]
        log = STORE / f"wheels-{target.arch}.log"
        beside = ["altgraph", "packaging", "pyinstaller-hooks-contrib", "setuptools"] if compiled else []
        fetched = [each for each in wanted if each not in compiled.values()]
        call([*pip, *platforms, *options, "-c", CONSTRAINTS, *fetched, *beside], log=log)
        for name, requirement in compiled.items():
            say(f"compiling {name} for {target.arch}")
            fromsource.build(requirement, CONSTRAINTS, name, fromsource.Bench(target, root, folder, log))
        for each in sorted(folder.rglob("*.so*")):
            call([target.tool("strip"), "--strip-unneeded", each], log=log)

    return kept(f"wheels-{target.arch}", [wanted, python, target.tags, sorted(target.compiled), CONSTRAINTS.read_text()], make)
