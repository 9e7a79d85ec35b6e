"""Builds the traffic light's container image from the checkout, without a builder: `python packaging/mapper_image.py OUTPUT.tar`.

PyInstaller freezes the mapper; the C library it was linked with, and a static busybox for people who look inside, are added from this
machine. The program stands where the sample's pod calls it, /traffic/light.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from pinnace.core.base.imagefiles import Platform, build, tree_layer, write_archive

NAME: Final = "docker.io/jiulongzaitian/traffic-light:v1.1"
ROOT: Final = Path(__file__).resolve().parents[1]
_ARCHITECTURES: Final = {
    "x86_64": Platform("linux", "amd64"),
    "aarch64": Platform("linux", "arm64"),
    "armv7l": Platform("linux", "arm", "v7"),
}


def freeze(scratch: Path) -> Path:
    """The frozen tree. PyInstaller exits 0 on a broken one, so it is asked for its flags once."""
    work = ROOT / ".build" / "pyinstaller-mapper"
    work.mkdir(parents=True, exist_ok=True)
    log = work.with_suffix(".log")
    command = [
        sys.executable,
        "-m",
        "PyInstaller",
        "--noconfirm",
        "--log-level",
        "WARN",
        "--workpath",
        str(work),
        "--distpath",
        str(scratch),
    ]
    steady = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}  # the same checkout, the same digest
    with log.open("w") as out:
        done = subprocess.run([*command, str(ROOT / "packaging" / "mapper.spec")], stdout=out, stderr=out, env=steady, check=False)
    tree = scratch / "light"
    if done.returncode or subprocess.run([tree / "light", "--help"], env={}, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(f"the mapper cannot be frozen; see {log}")
    return tree


def libraries(tree: Path) -> set[Path]:
    """Shared objects outside of the tree that what is in it needs, by ldd(1)."""
    found: set[Path] = set()
    for each in (path for path in tree.rglob("*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"):
        said = subprocess.run(["ldd", each], capture_output=True, text=True, check=False).stdout
        words = [word for line in said.splitlines() for word in line.split()]
        found |= {Path(word) for word in words if word.startswith("/") and not Path(word).is_relative_to(tree)}
    return found


def lay_out(frozen: Path, root: Path) -> None:
    """The image's files: the frozen tree in /opt, libraries where the loader looks for them, /traffic/light."""
    shutil.copytree(frozen, root / "opt" / "light", symlinks=True)
    for library in libraries(frozen):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, target)
        target.chmod(0o755)
    for folder in ("traffic", "etc", "tmp", "bin", "run"):
        (root / folder).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "traffic" / "light").symlink_to("../opt/light/light")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (root / "etc" / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    busybox = shutil.which("busybox")
    if busybox and subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode:
        shutil.copyfile(busybox, root / "bin" / "busybox")
        (root / "bin" / "busybox").chmod(0o755)
        for name in ("sh", "ls", "cat", "ps", "env", "tar"):
            (root / "bin" / name).symlink_to("busybox")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the OCI archive to write")
    parser.add_argument("--name", default=NAME, help="the image's name (%(default)s)")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        lay_out(freeze(scratch), scratch / "root")
        image = build(
            [tree_layer(scratch / "root", scratch / "layer.tar.gz")],
            {"Entrypoint": ["/traffic/light"], "Env": ["PATH=/traffic:/bin"]},
            platform=_ARCHITECTURES[platform.machine()],
        )
        digest = write_archive(args.output, {args.name: [image]})
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, {digest}")


if __name__ == "__main__":
    main()
