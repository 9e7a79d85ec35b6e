"""What is broken off, damaged or stuck leaves no process, mount, address or folder behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from integration.pods.oci.conftest import another
from rig.oci import OciHome
from rig.processes import children_of

from pinnace.core.base.runtime import ContainerState, Namespaces, SandboxState
from pinnace.core.pods.oci import sandboxes, shims
from pinnace.core.pods.oci.files import start_time
from pinnace.core.pods.oci.runtime import OciRuntime
from pinnace.core.pods.oci.shims import Shims
from pinnace.core.pods.oci.streams import PodConnection

pytestmark = [pytest.mark.containers, pytest.mark.root]
NETWORKED = Namespaces(share_pid=True)


def leases(home: OciHome) -> set[str]:
    return {path.name for path in (home.folder / "leases").rglob("*") if path.name[:1].isdigit()}


def of_sandboxes(home: OciHome) -> list[Path]:
    return [each for folder in (home.settings.root_dir, home.settings.run_dir) for each in (folder / "oci/sandboxes").iterdir()]


def pauses(home: OciHome) -> set[int]:
    """The first processes of shared pid namespaces that began from this home."""
    found = set()
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                each.name.isdecimal()
                and str(home.folder).encode() in (each / "cmdline").read_bytes()
                and b"sandbox" in (each / "cmdline").read_bytes()
            ):
                found.add(int(each.name))
    return {pid for pid in found if start_time(pid)}


async def test_sandbox_given_up_at_any_moment_leaves_nothing(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    for step in range(40):
        task = asyncio.create_task(pod.sandbox(namespaces=NETWORKED))
        await asyncio.wait([task], timeout=step * 0.004)  # where in it the pod gives up
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await runtime.remove_sandbox(await task)
        assert of_sandboxes(home) == []
        assert home.mounts() == [str(home.settings.run_dir / "oci")]
        assert leases(home) == set()
    assert pauses(home) == set()


async def test_address_of_a_sandbox_comes_back_though_its_records_are_damaged(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    """As a power cut leaves them on file systems that write names before contents."""
    whole = await pod.sandbox(namespaces=NETWORKED)
    lost = await pod.sandbox(namespaces=NETWORKED, attempt=1)
    stray = await pod.sandbox(namespaces=NETWORKED, attempt=2)
    assert len(leases(home)) == 3
    await runtime.close()
    records = home.settings.root_dir / "oci/sandboxes"
    (records / whole / "network.json").write_bytes(b"")
    (records / lost / "sandbox.json").write_bytes(b"")
    for each in (records / stray).iterdir():
        each.unlink()
    (records / stray).rmdir()
    async with another(home) as second:
        assert [each.id for each in await second.sandboxes(pod.uid)] == [whole]
        await second.remove_sandbox(whole)
        assert of_sandboxes(home) == []
        assert home.mounts() == [str(home.settings.run_dir / "oci")]
        assert len(leases(home)) == 1, "of the stray sandbox nobody knows the network"
    for path in (home.folder / "leases").rglob("10.*"):
        path.unlink()


async def test_sandbox_ends_on_a_full_disk(pod: TestPod, runtime: OciRuntime, home: OciHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stopped, removed = await pod.sandbox(namespaces=NETWORKED), await pod.sandbox(namespaces=NETWORKED, attempt=1)
    with monkeypatch.context() as patched:
        patched.setattr(sandboxes, "write_whole", full)
        await runtime.stop_sandbox(stopped)
        await runtime.remove_sandbox(removed)
    async with another(home) as later:
        (left,) = await later.sandboxes(pod.uid)
        assert (left.id, left.state) == (stopped, SandboxState.NOT_READY)
        await later.remove_sandbox(stopped)
    assert of_sandboxes(home) == []
    assert leases(home) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "pinnace-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


async def test_exit_code_of_a_container_that_ended_on_a_full_disk_is_kept(
    small_disk: Path, home: OciHome, tmp_path: Path, cgroup: str
) -> None:
    settings = replace(home.settings, root_dir=small_disk / "root", run_dir=home.folder / "full")
    in_memory, on_disk = settings.run_dir / "oci/containers", settings.root_dir / "oci/containers"
    first, later = (OciRuntime(settings, home.images, bridge=home.bridge) for _ in range(2))
    await first.start()
    pod = TestPod(first, tmp_path, cgroup)
    container_id = await pod.shell("read line; exit 42", stdin=True)
    shim = int((in_memory / container_id / "shim").read_text().split()[0])
    with contextlib.suppress(OSError), (small_disk / "much").open("wb", buffering=0) as much:
        while True:
            much.write(bytes(4096))
    async with first.attach(container_id, stdin=True) as stream:
        await stream.write(b"go\n")
        await until(lambda: asyncio.to_thread((in_memory / container_id / "exit").exists), what="the end")
    with contextlib.suppress(ProcessLookupError):
        os.kill(shim, signal.SIGKILL)  # sooner than it gives up on the disk
    ended = await pod.ended(container_id)
    assert (ended.exit_code, ended.reason) == (42, "Error")
    assert not (on_disk / container_id / "exit").exists()
    await first.close()
    (small_disk / "much").unlink()
    await later.start()
    assert (await later.container(container_id)).exit_code == 42
    assert (on_disk / container_id / "exit").exists()
    pod.runtime = later
    await pod.remove()
    await later.close()


async def test_container_whose_shim_hangs_ends(pod: TestPod, runtime: OciRuntime, home: OciHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shims, "ANSWER_SECONDS", 0.3)
    container_id = await pod.start()
    pid = int((home.settings.run_dir / "oci/containers" / container_id / "pid").read_text())
    shim = home.shims()[container_id]
    os.kill(shim, signal.SIGSTOP)
    await runtime.stop_container(container_id, 1)
    container = await runtime.container(container_id)
    assert (container.state, container.exit_code, container.reason) == (ContainerState.EXITED, 137, "ContainerStatusUnknown")
    assert start_time(pid) == start_time(shim) == 0


async def test_container_whose_shim_lets_nobody_in_ends(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start()
    shim = home.shims()[container_id]
    (home.settings.run_dir / "oci/containers" / container_id / "s").unlink()
    await runtime.stop_container(container_id, 0)
    container = await runtime.container(container_id)
    assert (container.state, container.exit_code) == (ContainerState.EXITED, 137)
    assert start_time(shim) == 0


async def test_shim_is_heard_though_many_wait_to_be_let_in(pod: TestPod, runtime: OciRuntime, home: OciHome) -> None:
    container_id = await pod.start(("/bin/sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"))
    shim = home.shims()[container_id]
    os.kill(shim, signal.SIGSTOP)
    path = str(home.settings.run_dir / "oci/containers" / container_id / "s")
    crowd = []
    with contextlib.suppress(BlockingIOError):
        for _ in range(10_000):
            crowd.append(socket.socket(socket.AF_UNIX))
            crowd[-1].setblocking(False)
            crowd[-1].connect(path)
    stopping = asyncio.create_task(runtime.stop_container(container_id, 20))
    await asyncio.sleep(0)
    os.kill(shim, signal.SIGCONT)
    for each in crowd:
        each.close()
    await stopping
    assert (await runtime.container(container_id)).exit_code == 3


async def test_connecting_into_a_pod_ends_with_its_caller(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        crowd = []
        for _ in range(8):
            crowd.append(socket.socket())
            crowd[-1].setblocking(False)
            crowd[-1].connect_ex(full.getsockname())
        before = children_of()
        task = asyncio.create_task(Shims(tmp_path, "crun").connect_into("/proc/self/ns/net", full.getsockname()[1]))

        async def connects() -> bool:
            return bool(children_of() - before)

        await until(connects, what="the child that connects")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children_of() <= before
        for each in crowd:
            each.close()


async def test_leaving_a_port_whose_server_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shims, "LEAVE_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    with theirs:
        async with asyncio.timeout(20):
            async with PodConnection(lambda: asyncio.open_connection(sock=ours)) as connection:
                writing = asyncio.create_task(connection.write(bytes(1 << 22)))
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
