"""Room, read-only file systems, worn and failing cards."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from fakes.machine import machine

from pinnace.core.doctor import storage
from pinnace.core.doctor.finding import Level
from pinnace.core.doctor.storage import DiskFacts, PlaceFacts, StorageFacts
from pinnace.core.settings import EdgeCoreSettings

GB = 10**9
PLACE = PlaceFacts("/var/lib/kubeedge", "the node's store", 16 * GB, 8 * GB, 0.9, "ext4", "mmcblk0p2")


def levels(facts: StorageFacts) -> list[Level]:
    return [each.level for each in storage.check(facts)]


@pytest.mark.parametrize(
    ("change", "level", "word"),
    [
        ({}, Level.OK, "8.0 of 16.0 GB free"),
        ({"free": 2 * GB}, Level.WARNING, "evicted"),
        ({"free": GB // 2}, Level.ERROR, "full"),
        ({"size": 64 * GB // 1000, "free": 30 * GB // 1000}, Level.OK, ""),
        ({"inodes_free": 0.01}, Level.ERROR, "inodes"),
        ({"is_read_only": True}, Level.ERROR, "read-only"),
    ],
)
def test_room(change: dict[str, object], level: Level, word: str) -> None:
    (found,) = storage.check(StorageFacts([dataclasses.replace(PLACE, **change)]))  # type: ignore[arg-type]
    assert found.level is level
    assert word in found.text
    assert bool(found.remedy) == (level is not Level.OK)


@pytest.mark.parametrize(
    ("disk", "level", "word"),
    [
        (DiskFacts("mmcblk0p2", is_card=True), Level.OK, "do not tell"),
        (DiskFacts("mmcblk0p2", is_card=True, life_tenths=3, pre_eol=1), Level.OK, "30 %"),
        (DiskFacts("mmcblk0p2", is_card=True, life_tenths=0xB, pre_eol=1), Level.WARNING, "worn out"),
        (DiskFacts("mmcblk0p2", is_card=True, life_tenths=2, pre_eol=3), Level.WARNING, "nearly used up"),
        (DiskFacts("sda1", errors=2), Level.ERROR, "noted by the file system"),
        (DiskFacts("mmcblk0p2", is_card=True, kernel_errors=5), Level.ERROR, "5 in the kernel's log"),
    ],
)
def test_health(disk: DiskFacts, level: Level, word: str) -> None:
    (found,) = storage.check(StorageFacts(disks=[disk]))
    assert found.level is level
    assert word in found.text


def test_what_the_machine_tells_is_read(tmp_path: Path) -> None:
    number = tmp_path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    mounts = (
        f"20 1 {device} / / ro,noatime shared:1 - ext4 /dev/root ro\n"
        f"21 20 {device} / /var rw,noatime shared:2 - ext4 /dev/mmcblk1p4 rw,commit=30\n"
    )
    log = (
        "3,700,1200,-;blk_update_request: I/O error, dev mmcblk1, sector 4096 op 0x1\n"
        "6,701,1300,-;usb 1-1: new device\n"
        "3,702,1400,-;EXT4-fs error (device mmcblk1p4): ext4_lookup:1700\n"
        "3,703,1500,-;mmc0: Timeout waiting for hardware interrupt.\n"
        "3,704,1600,-;mmcblk1: error -110 sending status command\n"
        "6,705,1700,-;mmcblk1: mmc1:aaaa SU16G 14.8 GiB\n"
    )
    files = {
        "/var/lib/kubeedge/": "",
        "/proc/self/mountinfo": mounts,
        "/sys/devices/mmc/mmcblk1p4/stat": "",
        "/sys/devices/mmc0/mmc0:aaaa/life_time": "0x02 0x05\n",
        "/sys/devices/mmc0/mmc0:aaaa/pre_eol_info": "0x01\n",
        "/sys/block/mmcblk1/": "",
        "/sys/fs/ext4/mmcblk1p4/errors_count": "3\n",
        "/dev/kmsg": log,
    }
    subject = machine(tmp_path, files)
    links = tmp_path / "sys/dev/block"
    links.mkdir(parents=True)
    (links / device).symlink_to("../../devices/mmc/mmcblk1p4")
    (tmp_path / "sys/block/mmcblk1/device").symlink_to("../../devices/mmc0/mmc0:aaaa")
    facts = storage.read(subject)
    assert {each.path: (each.device, each.mounted_on, each.is_read_only) for each in facts.places} == {
        "/var/lib/kubeedge": ("mmcblk1p4", "/var", False),
        "/var/lib/pinnace": ("mmcblk1p4", "/var", False),
        "/var/log/pods": ("mmcblk1p4", "/var", False),
    }
    (disk,) = facts.disks
    assert disk == DiskFacts("mmcblk1p4", is_card=True, life_tenths=5, pre_eol=1, errors=3, kernel_errors=4)
    assert Level.ERROR in levels(facts)


def test_a_store_on_the_root_that_went_read_only(tmp_path: Path) -> None:
    files = {"/proc/self/mountinfo": "20 1 179:2 / / rw shared:1 - ext4 /dev/root ro,errors=remount-ro\n"}
    facts = storage.read(machine(tmp_path, files, EdgeCoreSettings()))
    assert all(each.is_read_only for each in facts.places)
    assert set(levels(StorageFacts(facts.places))) == {Level.ERROR}
