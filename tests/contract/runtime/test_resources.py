"""Limits as the kernel sees them, and what is used."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from contract.runtime.pods import TestPod, until

from pinnace.core.base.runtime import Resources

MIB = 1 << 20


def cgroup_files(pid: int) -> dict[str, Path]:
    """The cgroup folder of a process by controller, "" for v2's one hierarchy."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            root = Path("/sys/fs/cgroup") / name if name else Path("/sys/fs/cgroup")
            found[name] = root / path.strip("/")
    return found


async def pid_of(seconds: str) -> int:
    """On the host, of the one process that sleeps so long."""
    found: list[int] = []

    async def is_there() -> bool:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and (entry / "cmdline").read_text().split("\0")[:2] == ["sleep", seconds]:
                    found.append(int(entry.name))
        return bool(found)

    await until(is_there, what=f"the process sleep {seconds}")
    return found[0]


def limit(pid: int, v1: str, v2: str) -> str:
    """One setting of a process, by its file's name in the old and the new hierarchy."""
    files = cgroup_files(pid)
    controller, name = v1.split("/")
    return (files[controller] / name).read_text().strip() if controller in files else (files[""] / v2).read_text().strip()


async def test_limits_are_in_the_cgroup_below_the_pods(pod: TestPod) -> None:
    seconds = str(100_000 + int(pod.uid[:4], 16))
    resources = Resources(cpu_period=100_000, cpu_quota=50_000, cpu_shares=512, memory_limit=64 * MIB, oom_score_adj=500)
    await pod.start(("sleep", seconds), resources=resources)
    pid = await pid_of(seconds)
    files = cgroup_files(pid)
    assert pod.cgroup in str(files.get("memory", files.get("")))
    assert limit(pid, "memory/memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    if "cpu" in files:
        assert limit(pid, "cpu/cpu.cfs_quota_us", "") == "50000"
        assert limit(pid, "cpu/cpu.cfs_period_us", "") == "100000"
        assert limit(pid, "cpu/cpu.shares", "") == "512"
    else:
        assert limit(pid, "cpu/", "cpu.max") == "50000 100000"
        assert abs(int(limit(pid, "cpu/", "cpu.weight")) - 20) <= 40
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "500"


async def test_cgroup_is_gone_with_the_container(pod: TestPod) -> None:
    seconds = str(200_000 + int(pod.uid[:4], 16))
    container_id = await pod.start(("sleep", seconds), resources=Resources(memory_limit=64 * MIB))
    files = cgroup_files(await pid_of(seconds))
    mine = files.get("memory") or files[""]
    assert mine.is_dir()
    await pod.runtime.remove_container(container_id)
    assert not mine.exists()


async def test_container_sees_its_own_limit(pod: TestPod) -> None:
    said = await pod.output(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max",
        resources=Resources(memory_limit=64 * MIB),
    )
    assert said == f"{64 * MIB}\n"


async def test_too_much_memory_ends_as_oom_killed(pod: TestPod) -> None:
    eat = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived ${#x}"
    container = await pod.run(("/bin/sh", "-c", eat), resources=Resources(memory_limit=32 * MIB))
    assert (container.exit_code, container.reason) == (137, "OOMKilled")


async def test_usage_counts_cpu_and_memory(pod: TestPod) -> None:
    container_id = await pod.shell("dd if=/dev/zero of=/dev/shm/eaten bs=1M count=20 2>/dev/null; echo up; while :; do :; done")
    await pod.until_said(container_id, "up")

    async def is_counted() -> bool:
        mine = [each for each in await pod.runtime.usage() if each.id == container_id]
        return bool(mine) and mine[0].cpu_seconds > 0.05 and mine[0].memory_working_set > 0 and mine[0].at > 0

    await until(is_counted, what="usage of the container")


async def test_usage_of_what_is_written_to_the_root(pod: TestPod) -> None:
    container_id = await pod.shell("dd if=/dev/zero of=/eaten bs=1M count=5 2>/dev/null; sync; echo up; sleep 1000")
    await pod.until_said(container_id, "up")

    async def is_counted() -> bool:
        return any(each.id == container_id and each.disk_bytes >= 5 * MIB for each in await pod.runtime.usage())

    await until(is_counted, what="disk use of the container", seconds=60)


async def test_what_has_ended_uses_nothing(pod: TestPod) -> None:
    container = await pod.run(("true",))
    running = await pod.start()

    async def is_right() -> bool:
        ids = {each.id for each in await pod.runtime.usage()}
        return running in ids and container.id not in ids

    await until(is_right, what="usage of just what runs")


async def test_v2_files_go_through_where_there_is_v2(pod: TestPod) -> None:
    if "memory" in cgroup_files(1) or not re.search(r"memory", Path("/sys/fs/cgroup/cgroup.controllers").read_text()):
        return
    resources = Resources(memory_limit=64 * MIB, unified={"memory.high": str(48 * MIB)})
    assert await pod.output("cat /sys/fs/cgroup/memory.high", resources=resources) == f"{48 * MIB}\n"
