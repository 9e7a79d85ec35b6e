"""containerd as a daemon that dies and comes back, lacks a network, or is not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract.runtime.installations import images
from contract.runtime.pods import TestPod, remove_cgroups, until
from rig.containerd import Containerd
from rig.cri import PAUSE

from pinnace.core.base.runtime import ContainerState, Namespaces, Runtime, RuntimeFailed
from pinnace.core.pods.cri.runtime import CriRuntime

pytestmark = [pytest.mark.containers, pytest.mark.root]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Containerd]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("containerd") is None:
        pytest.skip("containerd is not installed")
    with Containerd() as made:
        made.add(images())
        yield made


@contextlib.asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[Runtime]:
    await runtime.start()
    task = asyncio.create_task(runtime.run())
    try:
        yield runtime
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runtime.close()


@pytest.fixture
async def runtime(daemon: Containerd) -> AsyncIterator[Runtime]:
    async with running(CriRuntime(daemon.endpoint, request_seconds=30)) as made:
        yield made


@pytest.fixture
async def pod(runtime: Runtime, tmp_path: Path) -> AsyncIterator[TestPod]:
    cgroup = f"/pinnace-test-{secrets.token_hex(4)}"
    made = TestPod(runtime, tmp_path, cgroup)
    try:
        yield made
    finally:
        await made.remove()
        remove_cgroups(cgroup)


async def test_daemon_that_is_killed_and_comes_back(daemon: Containerd, pod: TestPod) -> None:
    going = await pod.start()
    ending = await pod.shell("while ! test -e /dev/shm/go; do sleep 0.02; done; exit 6")
    told: list[str] = []
    pod.runtime.on_change(told.append)
    await asyncio.to_thread(daemon.stop, signal.SIGKILL)
    state = await pod.runtime.state()
    assert "see to it that containerd runs" in state.problem
    assert str(daemon.socket) in state.problem
    with pytest.raises(RuntimeFailed, match="cannot be reached"):
        await pod.runtime.containers()
    told.clear()
    await asyncio.to_thread(daemon.start)
    assert (await pod.runtime.state()).problem == ""
    assert (await pod.runtime.container(going)).state is ContainerState.RUNNING
    await pod.exec(going, "touch /dev/shm/go")
    container = await pod.ended(ending)
    assert (container.exit_code, container.reason) == (6, "Error")

    async def is_told() -> bool:
        return pod.uid in told

    await until(is_told, what="the end of a container, after the daemon came back")


async def test_container_that_ends_while_the_daemon_is_down(daemon: Containerd, pod: TestPod) -> None:
    signals = Namespaces(host_network=True, host_pid=True)
    await pod.sandbox(namespaces=signals)
    container_id = await pod.shell("echo pid $$; exec sleep 1000")
    await pod.until_said(container_id, "pid ")
    pid = int((await pod.runtime.container(container_id)).log_path.read_text().split()[-1])
    await asyncio.to_thread(daemon.stop, signal.SIGKILL)
    os.kill(pid, signal.SIGTERM)
    await asyncio.to_thread(daemon.start)
    container = await pod.ended(container_id)
    assert container.exit_code in (128 + signal.SIGTERM, 255)
    assert container.reason in ("Error", "ContainerStatusUnknown")


async def test_stream_breaks_with_the_daemon_and_says_so(daemon: Containerd, pod: TestPod) -> None:
    container_id = await pod.start()

    async def listen() -> int:
        async with pod.runtime.exec(container_id, ("/bin/sh", "-c", "echo up; sleep 1000"), tty=False, stdin=False) as stream:
            async for _, data in stream.output():
                assert data == b"up\n"
                await asyncio.to_thread(daemon.stop, signal.SIGKILL)
            return await stream.wait()

    try:
        with pytest.raises(RuntimeFailed, match="broke off the stream"):
            await listen()
    finally:
        await asyncio.to_thread(daemon.start)


async def test_sandbox_image_is_pinned(runtime: Runtime) -> None:
    pinned = {name for each in await runtime.images.images() if each.is_pinned for name in each.tags}
    assert pinned == {PAUSE}
    image = await runtime.images.image(PAUSE)
    assert image is not None
    assert image.is_pinned


async def test_no_network_is_told_and_host_network_runs_all_the_same(daemon: Containerd, pod: TestPod) -> None:
    network = daemon.folder / "net.d/10-test.conflist"
    text = network.read_text()
    network.unlink()
    try:

        async def is_told() -> bool:
            return "/etc/cni/net.d" in (await pod.runtime.state()).network_problem

        await until(is_told, what="the lack of a network")
        assert (await pod.runtime.state()).problem == ""
        assert await pod.output("echo well") == "well\n"
        with pytest.raises(RuntimeFailed, match=r"cni|network"):
            await TestPod(pod.runtime, pod.folder, pod.cgroup).sandbox(namespaces=Namespaces())
    finally:
        network.write_text(text)

    async def is_well() -> bool:
        return (await pod.runtime.state()).network_problem == ""

    await until(is_well, what="the network")


async def test_nothing_there_is_told_and_not_raised(tmp_path: Path) -> None:
    async with running(CriRuntime(f"unix://{tmp_path}/none.sock")) as runtime:
        state = await runtime.state()
        assert "nothing answers on" in state.problem
        assert "containerRuntimeEndpoint" in state.problem
        assert runtime.name == "containerd"


async def test_nothing_is_left_of_a_daemon() -> None:
    def live() -> Containerd:
        with Containerd() as made:
            made.add(images())

            async def use() -> None:
                async with running(CriRuntime(made.endpoint)) as runtime:
                    pod = TestPod(runtime, made.folder, f"/pinnace-test-{made.tag}")
                    await pod.sandbox(namespaces=Namespaces())
                    await pod.start()

            asyncio.run(use())
        remove_cgroups(f"/pinnace-test-{made.tag}")
        return made

    if os.geteuid() != 0 or shutil.which("containerd") is None:
        pytest.skip("needs root and containerd")
    made = await asyncio.to_thread(live)
    assert not made.folder.exists()
    assert str(made.folder) not in Path("/proc/self/mountinfo").read_text()
    assert not Path(f"/sys/class/net/{made.bridge}").exists()
    assert made.holders() == []
