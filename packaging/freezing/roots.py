"""Roots of the target's own distribution, by mmdebstrap from this machine's apt sources: files of packages, no script of theirs has run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

from freezing.targets import STORE, Target, call, kept, say

BUILDING: Final = (
    "python3", "libpython3-dev", "libc6-dev", "bash", "binutils", "musl-dev", "libcap-dev", "libseccomp-dev",
    "libssl-dev", "openssl", "containernetworking-plugins", "ca-certificates", "libc-bin", "dash", "coreutils",
)  # fmt: skip
"""What is bundled comes from these, and what the rest is compiled and frozen with."""
BARE: Final = ("?essential", "iptables")
"""A system with nothing on it: where a result must run."""
_SKIPPED: Final = "--skip=cleanup/apt,check/qemu"
_PLACES: Final = ("./lib/", "./usr/lib/", "./usr/bin/", "./usr/sbin/", "./bin/", "./sbin/")


def sources() -> tuple[str, list[str]]:
    """The distribution's code name and its repositories as sources.list lines; those of others that this machine uses as well are left
    out. FREEZE_SOURCES names a file of such lines (deb and deb-src, the distribution's own first) where the machine's do not have the
    architecture. SystemExit when apt knows none."""
    release = platform.freedesktop_os_release()
    code = release.get("VERSION_CODENAME", "")
    if given := os.environ.get("FREEZE_SOURCES"):
        lines = [line.strip() for line in Path(given).read_text().splitlines() if line.startswith("deb")]
        return lines[0].partition("]")[2].split()[1] if "[" in lines[0] else lines[0].split()[2], lines
    form = "$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)"
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], capture_output=True, text=True, check=True
    ).stdout
    found = sorted({tuple(line.split("|")) for line in said.splitlines()})
    own = [each for each in found if each[3].lower() == release["ID"] and each[1].partition("-")[0] == code]
    if not own:
        raise SystemExit("apt knows no repository of this distribution yet: apt-get update, then again")
    lines = [f"{kind} {uri} {suite} {component}" for uri, suite, component, _ in own for kind in ("deb", "deb-src")]
    return code, lines


def building(target: Target) -> Path:
    """The root that things are compiled against, and that PyInstaller runs in."""
    return _root(f"root-{target.arch}", target, BUILDING)


def bare(target: Target) -> Path:
    return _root(f"bare-{target.arch}", target, BARE)


def _root(name: str, target: Target, packages: tuple[str, ...]) -> Path:
    code, lines = sources()

    def make(folder: Path) -> None:
        if os.geteuid() != 0:
            raise SystemExit("a root of another system can only be made, and entered, by root: sudo make freeze")
        if shutil.which("mmdebstrap") is None:
            raise SystemExit("mmdebstrap is not there; apt-get install mmdebstrap")
        say(f"unpacking {code}'s packages for {target.arch}")
        listed = folder.with_suffix(".list")
        listed.write_text("\n".join([*lines, ""]))
        options = [
            f"--architectures={target.arch}",
            "--variant=extract",
            "--mode=root",
            _SKIPPED,
            *(f"--include={each}" for each in packages),
        ]
        call(["mmdebstrap", *options, code, folder, listed], log=STORE / f"{name}.log")
        listed.unlink()
        (folder / "packages.json").write_text(json.dumps(_owners(folder)))

    return kept(name, [lines, packages, target.arch], make)


def _owners(root: Path) -> dict[str, list[str]]:
    """Path of a file below the root → the name, the version and the source of its package."""
    found: dict[str, list[str]] = {}
    for archive in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        form = "${Package}\n${Version}\n${source:Package}\n${source:Version}"
        package = subprocess.run(["dpkg-deb", "-W", f"--showformat={form}", archive], capture_output=True, text=True, check=True).stdout
        listed = subprocess.run(["dpkg-deb", "-c", archive], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            path = line.split(None, 5)[5].partition(" -> ")[0]
            if path.startswith(_PLACES) and not path.endswith("/"):
                found[path[1:]] = package.splitlines()
        archive.unlink()
    return found


def source_package(root: Path, name: str, into: Path, log: Path) -> Path:
    """The unpacked source of one of the distribution's packages."""
    options = [
        *("-o", f"Dir={root}", "-o", f"Dir::State::status={root}/var/lib/dpkg/status", "-o", "APT::Sandbox::User=root"),
        *("-o", "Dir::Etc::TrustedParts=/etc/apt/trusted.gpg.d"),
    ]
    call(["apt-get", *options, "source", "--download-only", name], cwd=into, log=log)
    call(["dpkg-source", "-x", next(into.glob("*.dsc")), into / "source"], log=log)
    return into / "source"


def python_version(root: Path) -> str:
    """ "3.11": of the root's python3."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")
