"""Where the image store keeps what; its files are written so that a power cut leaves the old one or the new one (base/files.py).

images/i/<id>.json      one record an image: its names, layers and configuration
images/l/<name>/d       an unpacked layer, the lower directory of an overlay (names are short: mount options are bounded)
images/l/<name>/layer.json
images/b/<sha256>       manifests and configurations
images/p/<sha256>       blobs that are being downloaded, to go on with after a cut
images/t/               work in progress; what a start finds there is thrown away
images/k/               locks between children
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pinnace.core.base.folders import remove


class Layout:
    """The folders below one root; readable by root only, since what is unpacked may hold set-uid programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = root / "i"
        self.layers = root / "l"
        self.blobs = root / "b"
        self.partials = root / "p"
        self.work = root / "t"
        self.locks = root / "k"
        self.used = root / "used.json"
        self.imports = root / "imports.json"

    def ensure(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self.index, self.layers, self.blobs, self.partials, self.work, self.locks):
            folder.mkdir(exist_ok=True, mode=0o700)

    def layer(self, name: str) -> Path:
        """The unpacked files of a layer."""
        return self.layers / name / "d"

    def working(self, name: str, pid: int) -> Path:
        """Where the child `pid` makes something that gets its name when it is whole."""
        return self.work / f"{name}.{pid}"

    def sweep(self, pid: int) -> None:
        """Remove what a child that was killed had in progress; what cannot be removed waits for the next start. Blocks."""
        for path in self.work.glob(f"*.{pid}"):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    remove(path)
            else:
                path.unlink(missing_ok=True)

    def blob(self, digest: str) -> Path:
        return self.blobs / digest.partition(":")[2]

    def partial(self, digest: str) -> Path:
        return self.partials / digest.partition(":")[2]
