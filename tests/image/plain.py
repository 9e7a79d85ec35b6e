"""Plain Debian on the same emulated board, for comparison: the same packages and kernel, an ordinary writable ext4 root, no Pinnace."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Final

from image.board import CARD, Board

_INIT: Final = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for each in $(cat /modules); do insmod "/lib/modules/$each" 2>/dev/null; done
until mount -t ext4 /dev/mmcblk0 /root 2>/dev/null || mount -t ext4 /dev/mmcblk1 /root 2>/dev/null; do sleep 0.1; done
for each in proc sys dev; do mount --move /$each /root/$each; done
exec switch_root /root /usr/lib/systemd/systemd
"""


async def start(board: Board, built: Path, place: Path) -> float:
    """Boot it until systemd has reached multi-user.target; seconds since power-on. `built` has the packages' roots, the board the image's
    initramfs."""
    root = place / "root"
    root.mkdir(parents=True)
    _run("tar", "-C", str(root), "-xf", str(built / "system.tar"), "--exclude=./dev/*")
    shutil.copytree(built / "boards/lib/modules", root / "usr/lib/modules", symlinks=True)
    (root / "etc/hostname").write_text("plain\n")
    (root / "etc/systemd/network/80-dhcp.network").write_text("[Match]\nName=en* eth* usb*\n\n[Network]\nDHCP=yes\n")
    _run("systemctl", "--root", str(root), "--quiet", "enable", "systemd-networkd", "systemd-resolved", "systemd-timesyncd")
    card = place / "card.img"
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(card), str(CARD >> 10))
    packed = place / "initramfs.gz"
    packed.write_bytes(_with_init((board.place / "initramfs.gz").read_bytes(), place / "initramfs"))
    board.start_other("console=ttyS1,115200 cma=64M systemd.watchdog_device=/dev/none", packed, card)
    try:
        return await board.hears(r"Reached target \S*multi-user", seconds=900)
    finally:
        board.cut()
        shutil.rmtree(place)


def _with_init(initramfs: bytes, tree: Path) -> bytes:
    """The image's initramfs with the init of here, by way of a folder."""
    tree.mkdir()
    subprocess.run(["cpio", "-i", "--quiet"], input=gzip.decompress(initramfs), cwd=tree, check=True)
    (tree / "init").write_text(_INIT)
    names = "".join(f"{each.relative_to(tree)}\n" for each in sorted(tree.rglob("*")))
    done = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=tree, stdout=subprocess.PIPE, check=True)
    return gzip.compress(done.stdout)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
