"""What a frozen build brings along (crun, network plugins, mosquitto, openssl, certificate authorities), and where it stands.

Configuration wins over the bundle, the bundle over the system. From a checkout there is no bundle.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

PREFIX: Final = Path("/opt/pinnace")
"""Where `pinnace install` lays versions down, and `current` is the one in use."""


def folder() -> Path | None:
    """The bundle; None from a checkout. An installed one is named by way of `current`: what is told to a supervisor of containers is
    still there when the next version has come and this one is gone."""
    if not getattr(sys, "frozen", False):
        return None
    own = Path(sys._MEIPASS)  # type: ignore[attr-defined]  # PyInstaller's name
    current = PREFIX / "current" / "lib"
    try:
        return current if current.samefile(own) else own
    except OSError:
        return own


def environment() -> dict[str, str]:
    """Ours for a program of the system's: without the library path of a frozen program, which would give it the wrong libraries."""
    env = dict(os.environ)
    path = env.pop("LD_LIBRARY_PATH_ORIG", None)
    if path is not None:
        env["LD_LIBRARY_PATH"] = path
    elif getattr(sys, "frozen", False):
        env.pop("LD_LIBRARY_PATH", None)
    return env


def is_unpacked_for_now() -> bool:
    """Is this the one file, whose bundle is in a temporary folder that goes with this process?"""
    return getattr(sys, "frozen", False) and Path(sys._MEIPASS).parent != Path(sys.executable).parent  # type: ignore[attr-defined]


def program(name: str) -> str:
    """The bundled program's path, or its name, for PATH to find the system's."""
    place = folder()
    path = place / "bin" / name if place else None
    return str(path) if path and path.exists() else name


def plugin_folders(*others: Path) -> tuple[Path, ...]:
    """Where network plugins are looked for: in the bundle, then in the system's folders."""
    place = folder()
    return (place / "cni", *others) if place else others


def authorities() -> str:
    """The bundled certificate authorities, where the system has none; "" where it has its own, or there is no bundle. Reads the disk."""
    import ssl  # only who asks pays for it

    place = folder()
    if place is None:
        return ""
    found = ssl.get_default_verify_paths()
    has_own = found.cafile is not None or (found.capath is not None and any(Path(found.capath).iterdir()))
    return "" if has_own else str(place / "cacert.pem")
