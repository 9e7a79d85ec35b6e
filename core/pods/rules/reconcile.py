"""What is to be done for a pod now: desired and observed in, actions out (docs/pods.md).

One round's actions are those that are due together; after them the pod is observed again. A pod in order, or one that can only wait,
gives none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from pinnace.core.base.pod import Container, Pod, RestartPolicy
from pinnace.core.base.runtime import CONTAINER_HASH, ContainerState, Sandbox, SandboxState
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.pods.rules.backoff import FOREVER, Delay, Trouble, due_at, duration, is_waiting
from pinnace.core.pods.rules.observed import Observed, restart_count

CRASH_LOOP: Final = "CrashLoopBackOff"
_DEAD: Final = (ContainerState.EXITED, ContainerState.CREATED)


class Why(Enum):
    """Why a container is ended; the value is what its event says after the container's name."""

    CHANGED = "definition changed, will be restarted"
    LIVENESS = "failed liveness probe, will be restarted"
    STARTUP = "failed startup probe, will be restarted"
    LOST = "is in unknown state, try killing it before restart"
    HOOK = "failed its postStart hook"
    ENDING = ""


@dataclass(frozen=True, slots=True)
class MakeSandbox:
    """Make the pod's surroundings anew. What runs in older ones is ended first; `why` is "" for the first one."""

    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class StopContainer:
    """`owes_start`: it is started again even if its restart policy says no (its definition changed)."""

    container: Container
    instance: Instance
    why: Why
    owes_start: bool = False


@dataclass(frozen=True, slots=True)
class StartContainer:
    """`attempt` is its restart count; `failed_at` when the previous one ended (0.0: there was none)."""

    container: Container
    attempt: int
    failed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """A dead one that a newer dead one replaces."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    sandbox: Sandbox


@dataclass(frozen=True, slots=True)
class Finish:
    """The pod has run its course: end what is left of it, for good."""


Action = MakeSandbox | StopContainer | StartContainer | RemoveContainer | RemoveSandbox | Finish


@dataclass(frozen=True, slots=True)
class Plan:
    """`waiting` says why containers are not running that should be, by name; `wake_at` when one of them is due (Unix seconds)."""

    actions: tuple[Action, ...] = ()
    waiting: Mapping[str, Trouble] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def wake_at(self) -> float | None:
        due = [each.until for each in self.waiting.values() if each.until != FOREVER]
        return min(due, default=None)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the agent remembers of a pod beyond what the runtime tells. `delays` are by `delay_key`, `troubles` by container; `owed` are
    containers that were ended to be started again; `restarts` are counts, `ends` exit codes of containers that the runtime may have
    forgotten."""

    delays: Mapping[str, Delay] = field(default_factory=lambda: MappingProxyType({}))
    troubles: Mapping[str, Trouble] = field(default_factory=lambda: MappingProxyType({}))
    owed: Collection[str] = frozenset()
    restarts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    ends: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


NOTHING: Final = Memory()


def delay_key(container: Container) -> str:
    """A changed container starts without the delays of the old one."""
    return f"{container.name}/{container.hash}"


def reconcile(pod: Pod, seen: Observed, memory: Memory, now: float) -> Plan:
    """For a pod that is to run: neither deleted nor evicted nor in a terminal phase. `now` in Unix seconds."""
    fault = sandbox_fault(pod, seen)
    if fault is not None:
        return _anew(pod, seen, memory, fault)
    round_ = _Round(pod, seen, memory, now)
    is_initialized = round_.initialize()
    if round_.is_over:
        return Plan((Finish(),))
    if is_initialized:
        round_.keep_main()
    if round_.is_over:
        return Plan((Finish(),))
    actions = (*round_.stops, *round_.removals, *round_.starts, *superseded(seen))
    return Plan(actions, round_.waiting)


def sandbox_fault(pod: Pod, seen: Observed) -> str | None:
    """Why the pod needs a new sandbox, "" when it never had one; None when it does not."""
    sandbox = seen.sandbox
    if sandbox is None:
        return ""
    if sandbox.state is not SandboxState.READY:
        return "Pod sandbox changed, it will be killed and re-created."
    if sum(each.state is SandboxState.READY for each in seen.sandboxes) > 1:
        return "Multiple sandboxes are ready, they will be killed and one re-created."
    if not sandbox.ips and not pod.host_network:
        return "Pod sandbox has no IP address, it will be killed and re-created."
    return None


def must_run(pod: Pod, container: Container, instance: Instance | None, memory: Memory = NOTHING) -> bool:
    """Whether a container that is not running is to be started (the kubelet's restart decision)."""
    if pod.is_deleting:
        return False
    if container.name in memory.owed:
        return True
    if instance is None:
        return container.name not in memory.ends or _runs_again(pod, container, memory.ends[container.name])
    match instance.state:
        case ContainerState.RUNNING:
            return False
        case ContainerState.CREATED | ContainerState.UNKNOWN:
            return True
        case ContainerState.EXITED:
            return _runs_again(pod, container, instance.exit_code)


def _runs_again(pod: Pod, container: Container, exit_code: int) -> bool:
    """After an end with that code."""
    if container.is_sidecar:
        return True
    if container.is_init:
        return exit_code != 0 and pod.restart_policy is not RestartPolicy.NEVER
    match pod.restart_policy:
        case RestartPolicy.ALWAYS:
            return True
        case RestartPolicy.ON_FAILURE:
            return exit_code != 0
        case RestartPolicy.NEVER:
            return False


def is_changed(container: Container, instance: Instance) -> bool:
    """Whether its spec is another than the one it was started with. A hash of another agent's making tells nothing."""
    told = instance.annotations.get(CONTAINER_HASH, "")
    return len(told) == len(container.hash) and told != container.hash


def superseded(seen: Observed) -> list[RemoveContainer | RemoveSandbox]:
    """What nobody needs any more: all of a container but the newest and what died before it, and dead sandboxes without containers."""
    gone: list[RemoveContainer | RemoveSandbox] = []
    kept: set[str] = set()
    for instances in seen.instances.values():
        newest = instances[0]
        previous = next((each for each in instances[1:] if each.state is ContainerState.EXITED), None)
        wanted = (newest, previous if newest.state is not ContainerState.EXITED else None)
        gone += [RemoveContainer(each) for each in instances if each not in wanted and each.state in _DEAD]
        kept.update(each.sandbox_id for each in instances if each in wanted or each.state not in _DEAD)
    gone += [RemoveSandbox(each) for each in seen.sandboxes[1:] if each.state is not SandboxState.READY and each.id not in kept]
    return gone


def _anew(pod: Pod, seen: Observed, memory: Memory, why: str) -> Plan:
    """A new sandbox, unless there is nothing left to run in it."""
    was_here = bool(seen.sandboxes) and bool(seen.instances)
    is_over = was_here and pod.restart_policy is RestartPolicy.NEVER
    if is_over or not any(must_run(pod, each, seen.newest(each.name), memory) or _runs(seen, each) for each in pod.containers):
        return Plan((Finish(),))
    attempt = seen.sandboxes[0].attempt + 1 if seen.sandboxes else 0
    return Plan((MakeSandbox(attempt, why),))


def _runs(seen: Observed, container: Container) -> bool:
    newest = seen.newest(container.name)
    return newest is not None and newest.state is ContainerState.RUNNING


class _Round:
    """One pass over a pod whose sandbox is in order."""

    def __init__(self, pod: Pod, seen: Observed, memory: Memory, now: float) -> None:
        self._pod = pod
        self._seen = seen
        self._memory = memory
        self._now = now
        self.stops: list[StopContainer] = []
        self.removals: list[RemoveContainer] = []
        self.starts: list[StartContainer] = []
        self.waiting: dict[str, Trouble] = {}
        self.is_over = False
        self._is_held = False

    def initialize(self) -> bool:
        """Init containers one after the other, sidecars kept running; whether the main ones may start. Only what is in the newest
        sandbox counts, so that a new sandbox begins from the first."""
        steps = self._pod.init_containers
        if any(self._seen.current(each.name) for each in self._pod.containers):
            frontier = len(steps)
        else:
            frontier = max((index for index, each in enumerate(steps) if self._seen.current(each.name)), default=-1)
        for each in steps[: max(frontier, 0)]:
            if each.is_sidecar:
                self._keep(each)
        if frontier >= len(steps):
            return True
        if frontier >= 0 and not self._is_done(steps[frontier]):
            return False
        if frontier + 1 == len(steps):
            return True
        self._start(steps[frontier + 1])
        return False

    def keep_main(self) -> None:
        for each in self._pod.containers:
            self._keep(each)
        self.is_over = not any(
            _runs(self._seen, each) or must_run(self._pod, each, self._seen.newest(each.name), self._memory)
            for each in self._pod.containers
        )

    def _is_done(self, step: Container) -> bool:
        """Whether the next one may start; does for this one what is due."""
        instance = self._seen.current(step.name)
        assert instance is not None
        if step.is_sidecar:
            self._keep(step)
            return instance.state is ContainerState.RUNNING and self._seen.verdict(instance).is_started and not self.stops
        if instance.state is ContainerState.RUNNING:
            return False
        if instance.state is ContainerState.EXITED:
            if instance.exit_code == 0:
                return True
            if self._pod.restart_policy is RestartPolicy.NEVER:
                self.is_over = True
                return False
        self._keep(step)
        return False

    def _keep(self, container: Container) -> None:
        """End it if it must not go on, start it if it should run and does not."""
        instance = self._seen.newest(container.name)
        if instance is not None and instance.state is ContainerState.RUNNING:
            self._judge(container, instance)
        elif must_run(self._pod, container, instance, self._memory):
            if instance is not None and instance.state is ContainerState.UNKNOWN:
                self.stops.append(StopContainer(container, instance, Why.LOST))
            self._start(container)

    def _judge(self, container: Container, instance: Instance) -> None:
        verdict = self._seen.verdict(instance)
        if is_changed(container, instance):
            self.stops.append(StopContainer(container, instance, Why.CHANGED, owes_start=True))
        elif verdict.startup is False:
            self.stops.append(StopContainer(container, instance, Why.STARTUP))
        elif not verdict.is_alive:
            self.stops.append(StopContainer(container, instance, Why.LIVENESS))

    def _start(self, container: Container) -> None:
        """Start it, or say why it waits."""
        newest = self._seen.newest(container.name)
        trouble = self._memory.troubles.get(container.name)
        if trouble is not None and is_waiting(trouble.until, self._now):
            self.waiting[container.name] = trouble
            self._is_held = self._is_held or trouble.until == FOREVER
            return
        if self._is_held and self._seen.current(container.name) is None:
            self.waiting[container.name] = Trouble("", "", FOREVER)  # the first starts keep the order of the spec
            return
        failed_at = 0.0
        if newest is not None and newest.state is ContainerState.EXITED:
            failed_at = newest.finished_at
            due = due_at(self._memory.delays.get(delay_key(container)), failed_at, self._now)
            if due > self._now:
                pod = f"{self._pod.name}_{self._pod.namespace}({self._pod.uid})"
                wait = duration(due - failed_at)
                message = f"back-off {wait} restarting failed container={container.name} pod={pod}"
                self.waiting[container.name] = Trouble(CRASH_LOOP, message, due)
                return
        if newest is not None and newest.state is ContainerState.CREATED:  # somebody was interrupted: it never ran, so this is no restart
            self.removals.append(RemoveContainer(newest))
            self.starts.append(StartContainer(container, restart_count(newest)))
            return
        counts = [restart_count(newest)] if newest is not None else []
        if (told := self._memory.restarts.get(container.name)) is not None:
            counts.append(told)
        self.starts.append(StartContainer(container, max(counts) + 1 if counts else 0, failed_at))
