"""Graceful shutdown over a real message bus: the lock is held, pods end in order, the lock goes; nobody but logind is believed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fakes.clock import FakeClock
from fakes.podcontrol import FakePodControl
from fakes.podevents import FakeEvents
from rig.login1 import Login, Peer, message_bus
from rig.waiting import until

from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.upkeep.dbus import MessageBus, Target
from pinnace.core.pods.upkeep.dbuswire import DbusFailed
from pinnace.core.pods.upkeep.shutdown import MESSAGE, NodeShutdown

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")


def pod(uid: str, *, priority: int = 0, phase: str = "Running", grace: int = 30, policy: str = "Always") -> Pod:
    spec = {"priority": priority, "terminationGracePeriodSeconds": grace, "restartPolicy": policy, "containers": []}
    return Pod({"metadata": {"name": uid, "uid": uid}, "spec": spec, "status": {"phase": phase}})


PODS = (pod("critical", priority=2_000_000_000), pod("web"), pod("job", grace=3, policy="OnFailure"), pod("done", phase="Succeeded"))


class Stage:
    def __init__(self, bus: Path, folder: Path, login: Login, *pods: Pod, grace: str = "30s", critical: str = "10s") -> None:
        self.login, self.control, self.events = login, FakePodControl(*pods), FakeEvents()
        self.drop_in = folder / "logind.conf.d" / "99-pinnace.conf"
        settings = KubeletSettings(shutdown_grace_period=grace, shutdown_grace_period_critical_pods=critical)
        self.shutdown = NodeShutdown(self.control, self.events, settings, bus=bus, drop_in=self.drop_in)
        self.problems: list[str] = []
        self.shutdown.on_change(lambda: self.problems.append(self.shutdown.problem))
        self.task = asyncio.create_task(self.shutdown.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()


@pytest.fixture
async def login(bus: Path) -> AsyncIterator[Login]:
    made = Login(bus, delay_seconds=60)
    yield made
    await made.close()


async def test_pods_end_in_order_and_then_the_lock_goes(bus: Path, login: Login, tmp_path: Path) -> None:
    stage = Stage(bus, tmp_path, login, *PODS)
    await soon(login.locked)
    assert login.inhibited == [("shutdown", "pinnace", "Pods need time to end", "delay")]
    held = asyncio.Event()

    async def end(uid: str) -> None:
        assert not login.released.is_set()
        if uid == "critical":
            await held.wait()

    stage.control.evicting = end
    login.peer.emit("PrepareForShutdown", "b", True)
    await until(lambda: len(stage.control.evictions) == 3, "three evictions")
    assert not login.released.is_set()
    held.set()
    await soon(login.released)
    assert stage.problems == ["node is shutting down"]
    evictions = stage.control.evictions
    assert [(each.uid, each.grace_seconds) for each in evictions] == [("web", 20), ("job", 3), ("critical", 10)]
    assert [(each.reason, each.message) for each in evictions] == [("", ""), ("Terminated", MESSAGE), ("", "")], "services rest, jobs fail"
    login.peer.emit("PrepareForShutdown", "b", False)
    await soon(login.locked)
    assert stage.problems == ["node is shutting down", ""]
    assert stage.control.woken == 1
    assert not stage.drop_in.exists(), "logind waits long enough as it is"
    await stage.close()
    await soon(login.released)


def test_the_same_on_the_loop_of_the_product(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with message_bus() as bus:
            login = Login(bus, delay_seconds=60)
            await test_pods_end_in_order_and_then_the_lock_goes(bus, login, tmp_path)
            await login.close()

    uvloop.run(scenario())


async def test_what_does_not_end_is_left_to_the_machine(bus: Path, login: Login, tmp_path: Path) -> None:
    stage = Stage(bus, tmp_path, login, pod("stuck"), grace="0.2s", critical="0s")
    await soon(login.locked)

    async def never(uid: str) -> None:
        await asyncio.get_running_loop().create_future()

    stage.control.evicting = never
    login.peer.emit("PrepareForShutdown", "b", True)
    await soon(login.released)
    await stage.close()


@pytest.mark.parametrize("goes_down", [False, True])
async def test_a_bus_that_comes_back_is_asked_whether_the_machine_still_goes_down(
    bus: Path, login: Login, tmp_path: Path, goes_down: bool
) -> None:
    stage = Stage(bus, tmp_path, login, pod("web"))
    await soon(login.locked)
    login.is_preparing = True
    login.peer.emit("PrepareForShutdown", "b", True)
    await soon(login.released)
    login.is_preparing = goes_down
    stage.task.cancel()
    await asyncio.gather(stage.task, return_exceptions=True)
    stage.task = asyncio.create_task(stage.shutdown.run())
    await soon(login.locked)
    assert (stage.shutdown.problem, stage.control.woken) == (("node is shutting down", 0) if goes_down else ("", 1))
    await stage.close()


async def test_a_short_delay_is_lengthened(bus: Path, login: Login, tmp_path: Path) -> None:
    login.delay_seconds, login.after_reload = 5, 30
    stage = Stage(bus, tmp_path, login)
    await soon(login.locked)
    assert stage.drop_in.read_text() == "[Login]\nInhibitDelayMaxSec=30\n"
    await stage.close()


async def test_only_logind_is_believed(bus: Path, login: Login, tmp_path: Path) -> None:
    stage = Stage(bus, tmp_path, login, pod("web"))
    await soon(login.locked)
    stranger = Peer(bus)
    stranger.emit("PrepareForShutdown", "b", True)
    for caller in login.callers:
        stranger.emit("PrepareForShutdown", "b", True, destination=caller)
    login.peer.emit("PrepareForSleep", "b", True)
    login.peer.emit("PrepareForShutdown", "b", False)
    await until(lambda: "ShutdownCancelled" in stage.events.reasons, "the event of it")
    assert not stage.control.evictions
    stranger.close()
    await stage.close()


async def test_without_a_bus_it_goes_on_trying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    settings = KubeletSettings(shutdown_grace_period="30s")
    made = NodeShutdown(FakePodControl(), FakeEvents(), settings, bus=tmp_path / "none", clock=clock)
    task = asyncio.create_task(made.run())
    for _ in range(5):
        await clock.advance(400)
        await asyncio.sleep(0)
    assert caplog.text.count("pods.shutdown.unwatched") == 1, "said once"
    assert not task.done()
    task.cancel()
    off = asyncio.create_task(NodeShutdown(FakePodControl(), FakeEvents(), KubeletSettings(), bus=tmp_path / "none").run())
    await asyncio.sleep(0)
    assert not off.done()
    off.cancel()
    await asyncio.gather(task, off, return_exceptions=True)


async def test_a_bus_that_goes_once_more_is_said_once_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, settings, address = FakeClock(), KubeletSettings(shutdown_grace_period="30s"), tmp_path / "bus"
    made = NodeShutdown(FakePodControl(), FakeEvents(), settings, bus=address, drop_in=tmp_path / "drop-in", clock=clock)
    task: asyncio.Task[None] | None = None
    for times in (1, 2):
        async with message_bus() as bus:
            login = Login(bus, delay_seconds=60)
            address.unlink(missing_ok=True)
            address.symlink_to(bus)
            task = task or asyncio.create_task(made.run())
            await clock.advance(400)
            await soon(login.locked)
            await login.close()
        async with asyncio.timeout(20):
            while caplog.text.count("pods.shutdown.unwatched") < times:
                await asyncio.sleep(0.01)
    assert task is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_calls_and_errors_of_a_real_bus(bus: Path) -> None:
    daemon = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
    async with MessageBus(bus) as connection:
        (identity,) = await connection.call(daemon, "GetId")
        assert len(identity) == 32
        assert await connection.call(daemon, "NameHasOwner", "s", "org.freedesktop.DBus") == (True,)
        (names,) = await connection.call(daemon, "ListNames")
        assert "org.freedesktop.DBus" in names
        with pytest.raises(DbusFailed) as refused:
            await connection.call(daemon, "Nonsense")
        assert refused.value.name == "org.freedesktop.DBus.Error.UnknownMethod"
        replies: list[Any] = await asyncio.gather(*(connection.call(daemon, "GetId") for _ in range(50)))
        assert set(replies) == {(identity,)}
    with pytest.raises(DbusFailed):
        await connection.call(daemon, "GetId")
