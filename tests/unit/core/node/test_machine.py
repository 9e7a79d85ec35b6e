"""What is read from the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from pinnace.core.node.machine import Reader


def write(root: Path, files: dict[str, str]) -> Reader:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Reader(root)


def test_reads_proc_and_etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    reader = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:        927912 kB\nMemFree: 1 kB\nMemAvailable:    500000 kB\n",
            "proc/loadavg": "0.20 0.18 0.12 2/150 11206\n",
            "proc/sys/kernel/pid_max": "32768\n",
            "proc/sys/kernel/random/boot_id": "b-o-o-t\n",
            "etc/machine-id": "abc\n",
            "etc/os-release": 'NAME="x"\nPRETTY_NAME="Raspberry Pi OS"\n',
            "sys/firmware/devicetree/base/serial-number": "10000000abcdef\0",
        },
    )
    machine, load = reader.machine(), reader.load("192.0.2.7")
    assert (machine.architecture, machine.os_image, machine.machine_id) == ("arm64", "Raspberry Pi OS", "abc")
    assert (machine.system_uuid, machine.boot_id, machine.memory) == ("10000000abcdef", "b-o-o-t", 927912 * 1024)
    assert machine.cpus == os.cpu_count()
    assert load.memory_available == 500000 * 1024
    assert load.tasks_free == 1 - 150 / 32768
    assert load.address == "192.0.2.7"
    assert 0 <= load.disk_free <= 1


def test_a_machine_that_tells_nothing_is_no_fault(tmp_path: Path) -> None:
    machine, load = Reader(tmp_path).machine(), Reader(tmp_path).load("x")
    assert (machine.memory, machine.machine_id, machine.os_image) == (0, "", "Linux")
    assert load.tasks_free == 1.0


def test_this_machine() -> None:
    machine = Reader().machine()
    assert machine.memory > 1 << 20
    assert machine.disk > 1 << 20
    assert machine.boot_id
