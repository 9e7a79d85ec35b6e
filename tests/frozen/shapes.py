"""Where `make freeze` has put what these tests are about."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from rig.system import ROOT

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
FOLDER: Final = ROOT / "dist" / _ARCHITECTURES.get(platform.machine(), "none")
TREE: Final = FOLDER / "pinnace"
PROGRAM: Final = TREE / "pinnace"


def one_file() -> Path:
    found = [each for each in FOLDER.glob("pinnace-*") if each.is_file()]
    assert len(found) == 1, "run `make freeze`"
    return found[0]
