"""Finds the kubectl programs the suite runs: the machine's own and Debian's 1.20."""

from __future__ import annotations

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
    try:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=OLD_FOLDER, check=True, capture_output=True, timeout=120)
        packages = sorted(OLD_FOLDER.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(packages[-1]), "."], cwd=OLD_FOLDER, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, IndexError):
        return None
    return program if program.exists() else None
