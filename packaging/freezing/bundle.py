"""What a bare system lacks and the edge brings along: crun, network plugins, mosquitto, openssl, and the certificate authorities."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from freezing.targets import Target, call

PLUGINS: Final = ("bridge", "host-local", "loopback", "portmap")
"""The default network's. One of a person's own that needs more finds the system's as well."""


def collect(target: Target, root: Path, made: Sequence[Path], into: Path, log: Path) -> None:
    """bin/, cni/ and cacert.pem in `into`; `made` are programs. Those with libraries look for them in the folder above them."""
    programs, plugins = into / "bin", into / "cni"
    programs.mkdir(parents=True)
    plugins.mkdir()
    for each in made:
        shutil.copy2(each, programs / each.name)
    shutil.copy2(root / "usr/bin/openssl", programs / "openssl")
    for name in ("mosquitto", "openssl"):
        call(["patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/..", programs / name], log=log)
    for name in PLUGINS:
        call([target.tool("strip"), "-o", plugins / name, root / "usr/lib/cni" / name], log=log)
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    (into / "cacert.pem").write_bytes(b"".join(each.read_bytes() for each in authorities))
