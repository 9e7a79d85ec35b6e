"""Finds the kubectl programs the suite runs: the machine's own and Debian's 1.20."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLD_FOLDER = ROOT / ".build" / "kubectl-1.20"
PACKAGE = "kubernetes-client"


def current() -> Path | None:
    """The machine's kubectl, or the one named by PINNACE_KUBECTL."""
    named = os.environ.get("PINNACE_KUBECTL")
    if named:
        return Path(named)
    found = shutil.which("kubectl")
    return Path(found) if found else None


def debian() -> Path | None:
    """Debian 12's kubectl 1.20: the one named by PINNACE_KUBECTL_120, or unpacked under .build (fetched by apt on first use)."""
    named = os.environ.get("PINNACE_KUBECTL_120")
    if named:
        return Path(named)
    program = OLD_FOLDER / "usr" / "bin" / "kubectl"
    if program.exists():
        return program
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return None
    OLD_FOLDER.mkdir(parents=True, exist_ok=True)
    with (OLD_FOLDER / "lock").open("w") as lock:  # several workers of one run come here at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _unpack()
    return program if program.exists() else None


def _unpack() -> None:
    """Beside its place first, so that nobody ever sees half of it."""
    fresh = OLD_FOLDER / "fresh"
    fresh.mkdir(exist_ok=True)
    with contextlib.suppress(subprocess.SubprocessError, IndexError):
        fetched = subprocess.run(["apt-get", "download", PACKAGE], cwd=fresh, check=False, capture_output=True, timeout=120)
        if fetched.returncode:  # a machine whose package lists were never fetched
            subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True, timeout=300)
            subprocess.run(["apt-get", "download", PACKAGE], cwd=fresh, check=True, capture_output=True, timeout=120)
        packages = sorted(fresh.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(packages[-1]), "."], cwd=fresh, check=True, capture_output=True, timeout=120)
        (fresh / "usr").rename(OLD_FOLDER / "usr")
