"""Where the node keeps what must last: room, whether it can be written, the health of card and file system."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject

FULL_BYTES, FULL_PART = 200 << 20, 0.05
TIGHT_PART: Final = 0.15
"""The kubelet's own bound, below which images are thrown away and pods evicted."""
_WORN_TENTHS: Final = 9
"""life_time of eMMC counts tenths of the life it is made for (JEDEC eMMC 5.0)."""
_KERNEL_ERRORS: Final = re.compile(
    r"(?:(?:I/O|critical medium) error, dev|Buffer I/O error on dev(?:ice)?|EXT4-fs error \(device) (\w+)"
    r"|(mmc\d+|mmcblk\d+): .*(?:error|[Tt]imeout)"
)
_KERNEL_RECORDS: Final = 20_000


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """A folder of the node's and the file system it is on. `device` is the block device's name, "" where there is none."""

    path: str
    what: str
    size: int
    free: int
    inodes_free: float
    kind: str = ""
    device: str = ""
    mounted_on: str = "/"
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """A block device: `life_tenths` and `pre_eol` as eMMC tells them (0 unknown), `errors` of its file system by the file system itself,
    `kernel_errors` those in the kernel's log."""

    name: str
    is_card: bool = False
    life_tenths: int = 0
    pre_eol: int = 0
    errors: int = 0
    kernel_errors: int = 0


@dataclass(frozen=True, slots=True)
class StorageFacts:
    places: list[PlaceFacts] = field(default_factory=list)
    disks: list[DiskFacts] = field(default_factory=list)
    sees_kernel_log: bool = True


def read(subject: Subject) -> StorageFacts:
    edged = subject.settings.modules.edged
    wanted = {"the node's store": subject.settings.database.data_source.parent}
    if edged.enable:
        wanted |= {"images and containers": edged.builtin_runtime.root_dir, "logs of pods": edged.pod_logs_dir}
    mounts = _mounts(subject)
    places = [found for what, path in wanted.items() if (found := _place(subject, what, path, mounts)) is not None]
    failures = _kernel_errors(subject)
    names = dict.fromkeys(each.device for each in places if each.device)
    return StorageFacts(places, [_disk(subject, name, failures) for name in names], os.access(subject.path("/dev/kmsg"), os.R_OK))


def _mounts(subject: Subject) -> list[tuple[str, str, str, str, str]]:
    """Mount point, device number, options, type, options of the file system (proc(5), mountinfo); the last mounted is the last."""
    found = []
    for line in subject.text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        head, tail = before.split(), after.split()
        if len(head) >= 6 and len(tail) >= 3:
            found.append((head[4].replace("\\040", " "), head[2], head[5], tail[0], tail[2]))
    return found


def _place(subject: Subject, what: str, path: Path, mounts: list[tuple[str, str, str, str, str]]) -> PlaceFacts | None:
    there = subject.path(path)
    while not there.exists() and there != subject.root:
        there = there.parent
    try:
        status = os.statvfs(there)
    except OSError:
        return None
    inside = "/" + str(there.relative_to(subject.root)).removeprefix(".")
    above = [each for each in mounts if inside == each[0] or inside.startswith(each[0].rstrip("/") + "/")]
    mount, number, options, kind, own = max(above, key=lambda each: len(each[0]), default=("/", "", "", "", ""))
    folder = subject.path(f"/sys/dev/block/{number}") if number else None
    return PlaceFacts(
        str(path),
        what,
        status.f_blocks * status.f_frsize,
        status.f_bavail * status.f_frsize,
        status.f_favail / status.f_files if status.f_files else 1.0,
        kind,
        folder.resolve().name if folder is not None and folder.exists() else "",
        mount,
        "ro" in options.split(",") or "ro" in own.split(","),
    )


def _disk(subject: Subject, name: str, failures: dict[str, int]) -> DiskFacts:
    whole = re.sub(r"p\d+$", "", name) if name.startswith(("mmcblk", "nvme")) else re.sub(r"\d+$", "", name)
    folder = f"/sys/block/{whole}/device"
    life = [int(each, 16) for each in subject.text(f"{folder}/life_time").split() if re.fullmatch(r"0x[0-9a-f]+", each)]
    end = subject.text(f"{folder}/pre_eol_info")
    errors = subject.text(f"/sys/fs/ext4/{name}/errors_count")
    host = re.search(r"/(mmc\d+)/", str(subject.path(folder).resolve()))
    return DiskFacts(
        name,
        whole.startswith("mmcblk"),
        max(life, default=0),
        int(end, 16) if re.fullmatch(r"0x[0-9a-f]+", end) else 0,
        int(errors) if errors.isdigit() else 0,
        failures.get(name, 0) + (failures.get(whole, 0) if whole != name else 0) + (failures.get(host[1], 0) if host else 0),
    )


def _kernel_errors(subject: Subject) -> dict[str, int]:
    """How many lines of the kernel's log tell of failures, by device; needs root."""
    found: dict[str, int] = {}
    for line in _kernel_log(subject.path("/dev/kmsg")):
        match = _KERNEL_ERRORS.search(line)
        if match is not None:
            name = match[1] or match[2]
            found[name] = found.get(name, 0) + 1
    return found


def _kernel_log(path: Path) -> Iterator[str]:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for _ in range(_KERNEL_RECORDS):
                try:
                    record = os.read(descriptor, 8192)
                except OSError as error:
                    if error.errno == errno.EPIPE:  # the oldest records are gone meanwhile
                        continue
                    return
                if not record:
                    return
                yield from record.decode(errors="replace").splitlines()
        finally:
            os.close(descriptor)


def check(facts: StorageFacts) -> Iterator[Finding]:
    for each in facts.places:
        yield _room(each)
    for disk in facts.disks:
        yield _health(disk, sees_kernel_log=facts.sees_kernel_log)


def _room(place: PlaceFacts) -> Finding:
    shown = f"{place.what} ({place.path}): {place.free / 1e9:.1f} of {place.size / 1e9:.1f} GB free"
    if place.is_read_only:
        text = f"{place.what} ({place.path}) cannot be written: {place.mounted_on} is mounted read-only, as after a fault of the card"
        remedy = (
            f"dmesg | grep -iE 'mmc|ext4|I/O'\nfsck -fn $(findmnt -no SOURCE {place.mounted_on})\nmount -o remount,rw {place.mounted_on}"
        )
        return Finding("storage", Level.ERROR, text, remedy)
    usage = f"du -xh --max-depth=2 {place.mounted_on} | sort -h | tail -n 20"
    if place.size and place.free < max(min(FULL_BYTES, place.size // 4), place.size * FULL_PART):
        return Finding("storage", Level.ERROR, f"{shown}: full, and nothing more can be stored", usage)
    if place.inodes_free < FULL_PART:
        return Finding("storage", Level.ERROR, f"{shown}, but no room for more files (inodes)", f"df -i {place.mounted_on}")
    if place.size and place.free < place.size * TIGHT_PART:
        return Finding("storage", Level.WARNING, f"{shown}: images are thrown away and pods evicted below 15 %", usage)
    return Finding("storage", Level.OK, shown)


def _health(disk: DiskFacts, *, sees_kernel_log: bool) -> Finding:
    name = f"card {disk.name}" if disk.is_card else f"disk {disk.name}"
    if disk.errors or disk.kernel_errors:
        where = [f"{disk.errors} noted by the file system"] * bool(disk.errors) + [f"{disk.kernel_errors} in the kernel's log"] * bool(
            disk.kernel_errors
        )
        remedy = f"dmesg | grep -E 'I/O error|mmc|EXT4-fs error'\nfsck -fn /dev/{disk.name}"
        return Finding("disk", Level.ERROR, f"{name} had errors ({', '.join(where)}): have another at hand, and copy what matters", remedy)
    if disk.pre_eol >= 2 or disk.life_tenths > _WORN_TENTHS:
        text = f"{name} is worn out: {min(disk.life_tenths, 10) * 10} % of the writes it is made for, reserve {_reserve(disk.pre_eol)}"
        whole = disk.name.partition("p")[0]
        return Finding("disk", Level.WARNING, text, f"cat /sys/block/{whole}/device/life_time /sys/block/{whole}/device/pre_eol_info")
    if disk.life_tenths:
        return Finding("disk", Level.OK, f"{name}: at most {disk.life_tenths * 10} % of its writes used, reserve {_reserve(disk.pre_eol)}")
    wear = "; SD cards do not tell how worn they are" if disk.is_card else ""
    unseen = "" if sees_kernel_log else " noted by the file system; the kernel's log is for root to read"
    return Finding("disk", Level.OK, f"{name}: no errors{unseen}{wear}")


def _reserve(pre_eol: int) -> str:
    return {1: "normal", 2: "mostly used", 3: "nearly used up"}.get(pre_eol, "unknown")
