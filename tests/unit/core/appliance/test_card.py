"""The initramfs's arithmetic on a card's partition table, on files that sfdisk made."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CARD_SH = Path(__file__).resolve().parents[4] / "packaging/image/initramfs/card.sh"
PROGRAMS = "/usr/sbin:/sbin:/usr/bin"
SFDISK = shutil.which("sfdisk", path=PROGRAMS)

pytestmark = pytest.mark.skipif(SFDISK is None or shutil.which("busybox") is None, reason="needs sfdisk (package fdisk) and busybox")

TABLE = """label: dos
label-id: 0x50494e4e
start=8192, size=8192, type=c, bootable
start=16384, size=8192, type=83
start=24576, size=8192, type=83
start=32768, size=16384, type=83
"""
NEEDED = 32768 + 16384


def sh(script: str) -> str:
    command = ["busybox", "sh", "-euc", f". {CARD_SH}\n{script}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    assert SFDISK is not None
    disk = tmp_path / "card"
    with disk.open("wb") as file:
        file.truncate(400_000 * 512)
    subprocess.run([SFDISK, "-q", disk], input=TABLE, text=True, check=True)
    return disk


def partitions(disk: Path) -> list[str]:
    assert SFDISK is not None
    said = subprocess.run([SFDISK, "-d", disk], capture_output=True, text=True, check=True).stdout
    return [" ".join(line.partition(": ")[2].split()) for line in said.splitlines() if " : " in line]


def test_tells_the_signature(card: Path) -> None:
    assert sh(f"card_signature {card}") == "50494e4e"


@pytest.mark.parametrize(
    ("sectors", "room"),
    [
        (NEEDED, "ok"),
        (NEEDED + 32767, "ok"),
        (NEEDED + 32768, "grow 49152"),
        (400_000, "grow 366592"),
        (1 << 33, "grow 4294932480"),
        (NEEDED - 1, "small 1"),
        (8192, f"small {NEEDED - 8192}"),
    ],
)
def test_tells_what_room_there_is(card: Path, sectors: int, room: str) -> None:
    assert sh(f"card_room {card} {sectors}") == room


def test_grows_the_last_partition_and_touches_nothing_else(card: Path) -> None:
    before = partitions(card)
    assert sh(f"card_grow {card} 366592; card_room {card} 400000") == "ok"
    after = partitions(card)
    assert after[:3] == before[:3]
    assert "start= 32768, size= 366592" in after[3]
    assert sh(f"card_signature {card}") == "50494e4e"


def test_an_image_cut_short_by_a_small_card_says_so_without_reading_beyond(card: Path) -> None:
    with card.open("rb+") as file:
        file.truncate(20000 * 512)
    assert sh(f"card_room {card} 20000") == f"small {NEEDED - 20000}"


@pytest.mark.skipif(shutil.which("mke2fs", path=PROGRAMS) is None, reason="needs e2fsprogs")
@pytest.mark.parametrize("block", [1024, 4096])
def test_a_file_system_that_a_power_cut_left_small_is_found_at_each_start(tmp_path: Path, block: int) -> None:
    partition = tmp_path / "data"
    with partition.open("wb") as file:
        file.truncate(64 << 20)
    mke2fs = shutil.which("mke2fs", path=PROGRAMS)
    assert mke2fs is not None
    subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-b", str(block), partition], check=True)
    sectors = (64 << 20) // 512
    for length, filled in ((sectors, "yes"), (sectors + 32767, "yes"), (sectors + 32768, "no"), (sectors * 1000, "no")):
        assert sh(f"if card_is_filled {partition} {length}; then echo yes; else echo no; fi") == filled
