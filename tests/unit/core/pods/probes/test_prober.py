"""The prober on a clock that moves only when told: delays, periods, thresholds, the startup gate, restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fakes.clock import FakeClock
from fakes.podevents import FakeEvents

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import ExecResult, RuntimeFailed
from pinnace.core.pods.ports import HookFailed, ProbeKind, ProbeResult
from pinnace.core.pods.probes import LifecycleHooks, ProbeRunner


class Commands:
    """Answers exec_sync by the command's first word: an exit code or an exception. Counts the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, int | Exception] = {}
        self.calls: list[str] = []

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        self.calls.append(command[0])
        answer = self.answers.get(command[0], 0)
        if isinstance(answer, Exception):
            raise answer
        return ExecResult(answer, b"said so", b"")


class Stage:
    def __init__(self) -> None:
        self.clock, self.commands, self.events = FakeClock(), Commands(), FakeEvents()
        self.prober = ProbeRunner(self.commands, self.events, clock=self.clock, draw=lambda: 0.5)
        self.changes: list[str] = []
        self.prober.on_change(self.changes.append)

    def watch(self, pod: Pod, *, is_restart: bool = False, age: float = 3600.0) -> None:
        """`age`: seconds since the container started."""
        started_at = self.clock.wall() - age
        self.prober.watch(pod, pod.containers[0], "id", "10.0.0.9", is_restart=is_restart, started_at=started_at)

    def results(self) -> list[ProbeResult]:
        return [self.prober.result("id", kind) for kind in (ProbeKind.STARTUP, ProbeKind.LIVENESS, ProbeKind.READINESS)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    yield made
    await made.prober.close()


def probe(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": [command]}, **more}


def pod(**probes: Any) -> Pod:
    return Pod({"metadata": {"name": "web", "uid": "u1"}, "spec": {"containers": [{"name": "c", **probes}]}})


SUCCESS, FAILURE, UNKNOWN = ProbeResult.SUCCESS, ProbeResult.FAILURE, ProbeResult.UNKNOWN


async def test_without_probes_all_is_well(stage: Stage) -> None:
    stage.watch(pod())
    await stage.clock.advance(60)
    assert stage.results() == [SUCCESS, SUCCESS, SUCCESS]
    assert not stage.commands.calls


async def test_initial_delay_then_every_period(stage: Stage) -> None:
    stage.watch(pod(readinessProbe=probe("ready", initialDelaySeconds=5, periodSeconds=10)))
    await stage.clock.advance(4.9)
    assert stage.commands.calls == []
    assert stage.results()[2] is FAILURE
    await stage.clock.advance(0.1)
    assert stage.results() == [SUCCESS, SUCCESS, SUCCESS]
    assert stage.changes == ["u1"]
    await stage.clock.advance(30)
    assert stage.commands.calls == ["ready"] * 4
    assert stage.changes == ["u1"], "no change, nothing to tell"


async def test_failures_in_a_row_make_unready_and_are_told(stage: Stage) -> None:
    stage.watch(pod(readinessProbe=probe("ready", failureThreshold=2)))
    await stage.clock.advance(0)
    stage.commands.answers["ready"] = 1
    await stage.clock.advance(10)
    assert stage.results()[2] is SUCCESS
    await stage.clock.advance(10)
    assert stage.results()[2] is FAILURE
    assert stage.changes == ["u1", "u1"]
    assert stage.events.told[0] == ("web", "Warning", "Unhealthy", "Readiness probe failed: said so", "c")
    stage.commands.answers["ready"] = 0
    await stage.clock.advance(10)
    assert stage.results()[2] is SUCCESS, "a readiness probe goes on"


async def test_liveness_ends_with_its_verdict_and_begins_anew_with_a_new_container(stage: Stage) -> None:
    stage.commands.answers["live"] = TimeoutError()
    web = pod(livenessProbe=probe("live", failureThreshold=3))
    stage.watch(web)
    await stage.clock.advance(19)
    assert stage.results()[1] is SUCCESS
    await stage.clock.advance(60)
    assert stage.results()[1] is FAILURE
    assert len(stage.commands.calls) == 3
    assert "timed out after 1 s" in stage.events.told[0].message
    stage.prober.forget("id")
    stage.commands.answers["live"] = 0
    stage.watch(web)
    await stage.clock.advance(0)
    assert stage.results()[1] is SUCCESS
    assert len(stage.commands.calls) == 4


async def test_startup_gates_the_others(stage: Stage) -> None:
    stage.commands.answers["start"] = 1
    stage.watch(pod(startupProbe=probe("start", failureThreshold=30), livenessProbe=probe("live"), readinessProbe=probe("ready")))
    await stage.clock.advance(25)
    assert stage.commands.calls == ["start"] * 3
    assert stage.results() == [UNKNOWN, SUCCESS, FAILURE]
    stage.commands.answers["start"] = 0
    await stage.clock.advance(5)
    assert stage.results() == [SUCCESS, SUCCESS, SUCCESS]
    await stage.clock.advance(20)
    assert stage.commands.calls.count("start") == 4, "it starts once"


async def test_a_container_that_never_starts(stage: Stage) -> None:
    stage.commands.answers["start"] = 1
    stage.watch(pod(startupProbe=probe("start", failureThreshold=2), readinessProbe=probe("ready")))
    await stage.clock.advance(100)
    assert stage.results()[0] is FAILURE
    assert stage.commands.calls == ["start", "start"]


async def test_what_cannot_be_found_out_counts_for_nothing(stage: Stage) -> None:
    stage.commands.answers["live"] = RuntimeFailed("the runtime is away")
    stage.watch(pod(livenessProbe=probe("live", failureThreshold=1)))
    await stage.clock.advance(50)
    assert stage.results()[1] is SUCCESS
    assert stage.events.told[0].message == "Liveness probe errored: the runtime is away"


async def test_a_broken_probe_is_survived(stage: Stage) -> None:
    stage.commands.answers["live"] = RuntimeError("a mistake of ours")
    stage.watch(pod(livenessProbe=probe("live"), readinessProbe=probe("ready")))
    await stage.clock.advance(20)
    assert stage.commands.calls.count("live") == 3
    assert stage.results()[2] is SUCCESS


async def test_after_a_restart_of_the_agent_nothing_becomes_unready(stage: Stage) -> None:
    web = pod(startupProbe=probe("start"), readinessProbe=probe("ready"))
    web.status["containerStatuses"] = [{"containerID": "pinnace://id", "ready": True, "started": True}]
    stage.watch(web, is_restart=True)
    assert stage.results() == [SUCCESS, SUCCESS, SUCCESS]
    await stage.clock.advance(4.9)
    assert stage.commands.calls == []
    await stage.clock.advance(0.1)
    assert stage.commands.calls == ["ready"], "at a random moment of the period, the startup probe not again"


@pytest.mark.parametrize(
    ("age", "first_look"),
    [(100.0, 200.0), (298.0, 5.0), (3600.0, 5.0), (-86_400.0, 300.0)],
    ids=["young", "almost due", "old", "a clock that was set back"],
)
async def test_a_restart_of_the_agent_does_not_cut_the_initial_delay_short(stage: Stage, age: float, first_look: float) -> None:
    stage.watch(pod(livenessProbe=probe("live", initialDelaySeconds=300)), is_restart=True, age=age)
    await stage.clock.advance(first_look - 0.1)
    assert stage.commands.calls == []
    await stage.clock.advance(0.1)
    assert stage.commands.calls == ["live"]


async def test_watching_twice_probes_once(stage: Stage) -> None:
    web = pod(readinessProbe=probe("ready"))
    stage.watch(web)
    stage.watch(web)
    await stage.clock.advance(0)
    assert stage.commands.calls == ["ready"]
    stage.prober.forget("id")
    stage.prober.forget("id")
    await stage.clock.advance(100)
    assert stage.commands.calls == ["ready"]


async def test_hooks(stage: Stage) -> None:
    hooks, web = LifecycleHooks(stage.commands, clock=stage.clock), pod()

    async def run(handler: dict[str, Any]) -> None:
        await hooks.run(web, web.containers[0], handler, "id", "127.0.0.1", timeout_seconds=5)

    await run(probe("fine"))
    stage.commands.answers["bad"] = 3
    with pytest.raises(HookFailed, match="exec hook failed: said so"):
        await run(probe("bad"))
    with pytest.raises(HookFailed, match="dial tcp"):
        await run({"tcpSocket": {"port": 1}})
    with pytest.raises(HookFailed, match="expected one of"):
        await run({})
    broken: list[Any] = ["bye", {"sleep": 5}, {"sleep": {"seconds": "long"}}, {"exec": "bye"}]
    for handler in broken:
        with pytest.raises(HookFailed):
            await run(handler)


async def test_a_hook_that_sleeps_does_so_within_its_time(stage: Stage) -> None:
    import asyncio

    hooks, web = LifecycleHooks(stage.commands, clock=stage.clock), pod()
    handler = {"sleep": {"seconds": 10}}
    sleeping = asyncio.ensure_future(hooks.run(web, web.containers[0], handler, "id", "", timeout_seconds=4))
    await stage.clock.advance(3.9)
    assert not sleeping.done()
    await stage.clock.advance(0.1)
    await sleeping
