"""The reconcile rule: tables for its decisions, and properties over simulated lives of any pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import CONTAINER_HASH, CONTAINER_RESTARTS, ContainerState, Sandbox, SandboxState
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.pods.rules.backoff import FOREVER, Delay, Trouble, tried
from pinnace.core.pods.rules.observed import Verdict, observed
from pinnace.core.pods.rules.phase import TERMINAL
from pinnace.core.pods.rules.reconcile import (
    Finish,
    MakeSandbox,
    Memory,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    StopContainer,
    Why,
    delay_key,
    must_run,
    reconcile,
)
from pinnace.core.pods.rules.status import Ending, pod_status
from pinnace.core.pods.rules.statuses import Words

NOW = 1_800_000_000.0
Object = dict[str, Any]


def make_pod(containers: list[Object] | None = None, **spec: Any) -> Pod:
    named = [{"name": "main", "image": "app:1"}] if containers is None else [{"image": "app:1", **each} for each in containers]
    return Pod({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {"containers": named, **spec}})


def box(number: int = 0, *, is_ready: bool = True, ips: tuple[str, ...] = ("10.0.0.2",)) -> Sandbox:
    state = SandboxState.READY if is_ready else SandboxState.NOT_READY
    return Sandbox(f"s{number}", "web", "default", "u", number, state, NOW, ips if is_ready else ())


def instance(
    name: str = "main", state: ContainerState = ContainerState.RUNNING, *, attempt: int = 0, box: int = 0, **more: Any
) -> Instance:
    annotations = {CONTAINER_RESTARTS: str(attempt), **more.pop("annotations", {})}
    finished = NOW if state is ContainerState.EXITED else 0.0
    return Instance(
        f"{name}-{attempt}-{box}", f"s{box}", name, attempt, state, "sha256:1", "app:1", "app@sha256:1", NOW, NOW,
        more.pop("finished_at", finished), annotations=annotations, **more,
    )  # fmt: skip


EXITED, RUNNING, CREATED, UNKNOWN = ContainerState.EXITED, ContainerState.RUNNING, ContainerState.CREATED, ContainerState.UNKNOWN


@pytest.mark.parametrize(
    ("state", "code", "always", "on_failure", "never"),
    [
        (None, 0, True, True, True),
        (CREATED, 0, True, True, True),
        (UNKNOWN, 0, True, True, True),
        (RUNNING, 0, False, False, False),
        (EXITED, 0, True, False, False),
        (EXITED, 1, True, True, False),
    ],
)
def test_restart_decision(state: ContainerState | None, code: int, always: bool, on_failure: bool, never: bool) -> None:
    there = instance(state=state, exit_code=code) if state is not None else None
    for policy, expected in (("Always", always), ("OnFailure", on_failure), ("Never", never)):
        pod = make_pod(restartPolicy=policy)
        assert must_run(pod, pod.containers[0], there) is expected, policy
        deleted = Pod({**pod.body, "metadata": {**pod.metadata, "deletionTimestamp": "2027-01-01T00:00:00Z"}})
        assert not must_run(deleted, deleted.containers[0], there)


def test_a_new_pod_gets_a_sandbox_first() -> None:
    assert reconcile(make_pod(), observed([], []), Memory(), NOW).actions == (MakeSandbox(0, ""),)


@pytest.mark.parametrize(
    "boxes",
    [[box(is_ready=False)], [box(0), box(1)], [box(ips=())]],
    ids=["stopped", "two ready", "no address"],
)
def test_a_sandbox_that_is_not_right_is_made_anew(boxes: list[Sandbox]) -> None:
    (action,) = reconcile(make_pod(), observed(boxes, [instance()]), Memory(), NOW).actions
    assert isinstance(action, MakeSandbox)
    assert action.attempt == boxes[-1].attempt + 1
    assert action.why


def test_a_pod_on_the_hosts_network_needs_no_address() -> None:
    assert not reconcile(make_pod(hostNetwork=True), observed([box(ips=())], [instance()]), Memory(), NOW).actions


def test_a_pod_that_never_restarts_is_over_with_its_sandbox() -> None:
    seen = observed([box(is_ready=False)], [instance(state=EXITED, exit_code=255)])
    assert reconcile(make_pod(restartPolicy="Never"), seen, Memory(), NOW).actions == (Finish(),)


def test_a_lost_sandbox_does_not_run_again_what_succeeded() -> None:
    pod = make_pod([{"name": "a"}, {"name": "b"}], restartPolicy="OnFailure")
    done = [instance("a", EXITED, exit_code=0), instance("b", EXITED, exit_code=255)]
    assert isinstance(reconcile(pod, observed([box(is_ready=False)], done), Memory(), NOW).actions[0], MakeSandbox)
    again = reconcile(pod, observed([box(0, is_ready=False), box(1)], done), Memory(), NOW)
    assert [each.container.name for each in again.actions if isinstance(each, StartContainer)] == ["b"]
    both = [instance("a", EXITED, exit_code=0), instance("b", EXITED, exit_code=0)]
    assert reconcile(pod, observed([box(is_ready=False)], both), Memory(), NOW).actions == (Finish(),)


def test_back_off_says_until_when() -> None:
    pod = make_pod()
    delays = {delay_key(pod.containers[0]): Delay(10.0, NOW - 5)}
    plan = reconcile(pod, observed([box()], [instance(state=EXITED, exit_code=1, finished_at=NOW - 3)]), Memory(delays), NOW)
    assert plan.actions == ()
    assert plan.wake_at == NOW + 7
    assert plan.waiting["main"].reason == "CrashLoopBackOff"
    later = reconcile(pod, observed([box()], [instance(state=EXITED, exit_code=1, finished_at=NOW - 3)]), Memory(delays), NOW + 7)
    assert isinstance(later.actions[0], StartContainer)


def test_a_clock_set_back_makes_nobody_wait_longer() -> None:
    pod = make_pod()
    delays = {delay_key(pod.containers[0]): Delay(10.0, NOW)}
    seen = observed([box()], [instance(state=EXITED, exit_code=1, finished_at=NOW)])
    assert reconcile(pod, seen, Memory(delays), NOW).wake_at == NOW + 10
    back = NOW - 3600
    (again,) = reconcile(pod, seen, Memory(delays), back).actions
    assert isinstance(again, StartContainer)
    delays[delay_key(pod.containers[0])] = tried(delays[delay_key(pod.containers[0])], again.failed_at, back)
    seen = observed([box()], [instance(state=EXITED, exit_code=1, attempt=1, finished_at=back + 0.01)])
    assert reconcile(pod, seen, Memory(delays), back + 0.02).wake_at == back + 0.01 + 20, "no loop that is not held back"


@pytest.mark.parametrize(("until", "is_held"), [(NOW + 2, False), (NOW - 3600 + 300, True), (FOREVER, True)])
def test_a_trouble_that_a_clock_set_back_puts_far_away_is_over(until: float, is_held: bool) -> None:
    trouble = Trouble("CreateContainerConfigError", "no such config map", until)
    plan = reconcile(make_pod(), observed([box()], []), Memory(troubles={"main": trouble}), NOW - 3600)
    assert plan.waiting == ({"main": trouble} if is_held else {})
    assert bool(plan.actions) is not is_held


@pytest.mark.parametrize(
    ("verdict", "annotations", "why"),
    [
        (Verdict(startup=False), {}, Why.STARTUP),
        (Verdict(is_alive=False), {}, Why.LIVENESS),
        (Verdict(), {CONTAINER_HASH: "0" * 16}, Why.CHANGED),
    ],
)
def test_who_must_not_go_on_is_ended(verdict: Verdict, annotations: dict[str, str], why: Why) -> None:
    there = instance(annotations=annotations)
    (action,) = reconcile(make_pod(), observed([box()], [there], {there.id: verdict}), Memory(), NOW).actions
    assert isinstance(action, StopContainer)
    assert action.why is why
    assert action.owes_start is (why is Why.CHANGED)


@pytest.mark.parametrize("annotations", [{}, {CONTAINER_HASH: "8a91c2f4"}])
def test_a_hash_of_another_agents_making_restarts_nothing(annotations: dict[str, str]) -> None:
    assert not reconcile(make_pod(), observed([box()], [instance(annotations=annotations)]), Memory(), NOW).actions


def test_owed_starts_are_made_whatever_the_policy() -> None:
    pod = make_pod(restartPolicy="Never")
    seen = observed([box()], [instance(state=EXITED, exit_code=143)])
    assert reconcile(pod, seen, Memory(), NOW).actions == (Finish(),)
    assert isinstance(reconcile(pod, seen, Memory(owed={"main"}), NOW).actions[0], StartContainer)


def test_an_unknown_one_is_ended_before_it_is_started_anew() -> None:
    stop, start = reconcile(make_pod(), observed([box()], [instance(state=UNKNOWN)]), Memory(), NOW).actions
    assert isinstance(stop, StopContainer)
    assert stop.why is Why.LOST
    assert isinstance(start, StartContainer)
    assert start.attempt == 1


def test_one_that_was_made_but_never_ran_is_made_again_and_counts_not() -> None:
    there = instance(state=CREATED, attempt=2)
    remove, start = reconcile(make_pod(), observed([box()], [there]), Memory(restarts={"main": 2}), NOW).actions
    assert remove == RemoveContainer(there)
    assert isinstance(start, StartContainer)
    assert start.attempt == 2


def test_counts_go_on_when_the_runtime_forgot() -> None:
    (start,) = reconcile(make_pod(), observed([box()], []), Memory(restarts={"main": 4}), NOW).actions
    assert isinstance(start, StartContainer)
    assert start.attempt == 5


@pytest.mark.parametrize(("code", "policies"), [(0, {"Always"}), (137, {"Always", "OnFailure"})])
def test_what_ended_stays_ended_when_the_runtime_forgot(code: int, policies: set[str]) -> None:
    memory = Memory(restarts={"main": 0}, ends={"main": code})
    for policy in ("Always", "OnFailure", "Never"):
        (action,) = reconcile(make_pod(restartPolicy=policy), observed([], []), memory, NOW).actions
        assert isinstance(action, MakeSandbox if policy in policies else Finish), policy


def test_of_two_that_the_runtime_forgot_only_the_one_that_failed_starts_again() -> None:
    pod = make_pod([{"name": "done"}, {"name": "cut"}], restartPolicy="OnFailure")
    memory = Memory(restarts={"done": 0, "cut": 0}, ends={"done": 0, "cut": 137})
    (make,) = reconcile(pod, observed([], []), memory, NOW).actions
    assert isinstance(make, MakeSandbox)
    (start,) = reconcile(pod, observed([box()], []), memory, NOW).actions
    assert isinstance(start, StartContainer)
    assert (start.container.name, start.attempt) == ("cut", 1)


def test_first_starts_wait_for_an_image_on_its_way() -> None:
    pod = make_pod([{"name": "a"}, {"name": "b"}, {"name": "c"}])
    memory = Memory(troubles={"b": Trouble("", "", FOREVER)})
    plan = reconcile(pod, observed([box()], [instance("a")]), memory, NOW)
    assert plan.actions == ()
    assert set(plan.waiting) == {"b", "c"}
    assert plan.wake_at is None


def test_dead_containers_but_one_and_empty_sandboxes_are_removed() -> None:
    dead = [instance(state=EXITED, attempt=attempt, exit_code=1, box=0) for attempt in range(3)]
    boxes = [box(1, is_ready=False), box(0, is_ready=False), box(2)]
    plan = reconcile(make_pod(), observed(boxes, [*dead, instance(attempt=3, box=2)]), Memory(), NOW)
    assert {each.instance.attempt for each in plan.actions if isinstance(each, RemoveContainer)} == {0, 1}
    assert [each.sandbox.attempt for each in plan.actions if isinstance(each, RemoveSandbox)] == [1]


# Properties.

NAMES = ("a", "b", "c")


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    inits = [
        {"name": f"i{index}", "image": "app:1", **({"restartPolicy": "Always"} if draw(st.booleans()) else {})}
        for index in range(draw(st.integers(0, 3)))
    ]
    main = [{"name": name, "image": "app:1"} for name in NAMES[: draw(st.integers(1, 3))]]
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    spec = {"containers": main, "initContainers": inits, "restartPolicy": policy}
    return Pod({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec})


class Life:
    """A pod on a runtime that does what it is told; keeps watch over what must never be."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.now = NOW
        self.boxes: list[Sandbox] = []
        self.instances: dict[str, Instance] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.delays: dict[str, Delay] = {}
        self.status: Object = {}
        self.is_over = False

    def settle(self) -> None:
        """Rounds until there is nothing to do but wait."""
        for _ in range(20):
            if self.is_over or not self.round():
                return
        raise AssertionError("it never comes to rest")

    def round(self) -> bool:
        seen = observed(self.boxes, self.instances.values(), self.verdicts)
        plan = reconcile(self.pod, seen, Memory(self.delays), self.now)
        starting = bool(plan.waiting) or any(isinstance(each, StartContainer | MakeSandbox) for each in plan.actions)
        before = self.status.get("phase")
        self.status = pod_status(
            self.pod, seen, Words("fake", waiting=plan.waiting, old=self.status), host_ips=("1.2.3.4",), now=self.now, goes_on=starting
        )
        assert before not in TERMINAL or self.status["phase"] == before
        for action in plan.actions:
            match action:
                case Finish():
                    self.finish()
                case MakeSandbox():
                    self.make_sandbox(action)
                case StopContainer():
                    self.exit(action.instance.name, 143)
                case StartContainer():
                    self.start(action)
                case RemoveContainer():
                    assert action.instance.state is not RUNNING
                    del self.instances[action.instance.id]
                case RemoveSandbox():
                    self.boxes.remove(action.sandbox)
        return bool(plan.actions)

    def finish(self) -> None:
        self.is_over = True
        for each in list(self.running()):
            self.exit(each.name, 137)
        self.boxes = [replace(each, state=SandboxState.NOT_READY, ips=()) for each in self.boxes]
        seen = observed(self.boxes, self.instances.values())
        self.status = pod_status(self.pod, seen, Words("fake", old=self.status), host_ips=(), now=self.now, is_terminal=True)
        assert self.status["phase"] in TERMINAL

    def make_sandbox(self, action: MakeSandbox) -> None:
        self.lose()
        self.boxes.append(box(action.attempt))

    def start(self, action: StartContainer) -> None:
        name = action.container.name
        assert not [each for each in self.running() if each.name == name], "two at once"
        if not action.container.is_init:
            for each in self.pod.init_containers:
                self.assert_done(each)
        made = instance(name, attempt=action.attempt, box=self.boxes[-1].attempt, annotations={CONTAINER_HASH: action.container.hash})
        assert made.id not in self.instances, "an attempt is made once"
        self.instances[made.id] = made
        if action.failed_at:
            key = delay_key(action.container)
            self.delays[key] = tried(self.delays.get(key), action.failed_at, self.now)

    def assert_done(self, init: Container) -> None:
        mine = [each for each in self.instances.values() if each.name == init.name and each.sandbox_id == self.boxes[-1].id]
        assert mine, f"{init.name} has not run in this sandbox"
        assert init.is_sidecar or any(each.exit_code == 0 and each.state is EXITED for each in mine)

    def running(self) -> list[Instance]:
        return [each for each in self.instances.values() if each.state is RUNNING]

    def exit(self, name: str, code: int) -> None:
        for each in self.running():
            if each.name == name:
                self.instances[each.id] = replace(each, state=EXITED, exit_code=code, finished_at=self.now)

    def lose(self) -> None:
        for each in self.running():
            self.exit(each.name, 137)
        self.boxes = [replace(each, state=SandboxState.NOT_READY, ips=()) for each in self.boxes]


@given(pods(), st.lists(st.tuples(st.sampled_from(["exit", "lose", "wait", "sick"]), st.integers(0, 5), st.integers(0, 2)), max_size=25))
@settings(max_examples=300, deadline=None)
def test_any_life_comes_to_rest_and_a_terminal_phase_is_never_left(pod: Pod, happenings: list[tuple[str, int, int]]) -> None:
    life = Life(pod)
    life.settle()
    for what, which, code in happenings:
        if life.is_over:
            break
        running = life.running()
        match what:
            case "exit" if running:
                life.exit(running[which % len(running)].name, code)
            case "sick" if running:
                life.verdicts[running[which % len(running)].id] = Verdict(is_alive=False)
            case "lose":
                life.lose()
            case _:
                life.now += 100.0 * (which + 1)
        life.settle()
        life.now += 1
    if not life.is_over:
        life.now += 1000
        for _ in range(10):  # ordinary init containers end well, if they may
            for each in life.running():
                if (container := pod.container(each.name)) is not None and container.is_init and not container.is_sidecar:
                    life.exit(each.name, 0)
            life.settle()
            life.now += 1000
        if not life.is_over:
            assert {each.name for each in life.running()} >= {each.name for each in pod.containers if pod.restart_policy.value == "Always"}
    settled = dict(life.status)
    seen = observed(life.boxes, life.instances.values(), life.verdicts)
    again = pod_status(pod, seen, Words("fake", old=settled), host_ips=("1.2.3.4",), now=life.now + 9)
    if settled["phase"] in TERMINAL:
        assert again["phase"] == settled["phase"]


def test_an_ending_is_said_of_a_pod_that_runs() -> None:
    seen = observed([box(is_ready=False)], [instance(state=EXITED, exit_code=0)])
    status = pod_status(make_pod(), seen, Words("fake"), host_ips=(), now=NOW, ending=Ending("Evicted", "low on memory"), is_terminal=True)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Evicted", "low on memory")
