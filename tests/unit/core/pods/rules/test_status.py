"""Phase, conditions, container statuses and the patch that tells them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.pods import _merged as merge

from pinnace.core.base.contract.moments import moment
from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Container, ContainerState, Sandbox, SandboxState
from pinnace.core.pods.rules.backoff import Delay, Trouble, due_at, duration, tried
from pinnace.core.pods.rules.conditions import conditions
from pinnace.core.pods.rules.observed import Verdict, observed
from pinnace.core.pods.rules.phase import phase
from pinnace.core.pods.rules.status import Ending, pod_status, refused_status, remembered, status_patch
from pinnace.core.pods.rules.statuses import Words, container_statuses, unix

NOW = 1_800_000_000.0
Object = dict[str, Any]

RUN: Object = {"state": {"running": {}}, "lastState": {}, "started": True, "ready": True}
WAIT: Object = {"state": {"waiting": {"reason": "ContainerCreating"}}, "lastState": {}, "started": False, "ready": False}


def done(code: int) -> Object:
    return {"state": {"terminated": {"exitCode": code}}, "lastState": {}, "started": False, "ready": code == 0}


def crashed(code: int) -> Object:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"state": waiting, "lastState": {"terminated": {"exitCode": code}}, "started": False, "ready": False}


def pod_of(init: list[str], main: int, policy: str = "Always") -> Pod:
    inits = [{"name": f"i{index}", **({"restartPolicy": "Always"} if kind == "side" else {})} for index, kind in enumerate(init)]
    spec = {"containers": [{"name": f"c{index}"} for index in range(main)], "initContainers": inits, "restartPolicy": policy}
    return Pod({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec})


def named(prefix: str, statuses: list[Object]) -> list[Object]:
    return [{"name": f"{prefix}{index}", **each} for index, each in enumerate(statuses)]


@pytest.mark.parametrize(
    ("policy", "main", "expected"),
    [
        ("Always", [RUN], "Running"),
        ("Always", [WAIT], "Pending"),
        ("Always", [RUN, WAIT], "Pending"),
        ("Always", [RUN, done(1)], "Running"),
        ("Always", [done(0)], "Running"),
        ("Always", [crashed(1)], "Running"),
        ("Always", [crashed(1), WAIT], "Pending"),
        ("OnFailure", [done(0), done(0)], "Succeeded"),
        ("OnFailure", [done(0), done(1)], "Running"),
        ("OnFailure", [done(0), RUN], "Running"),
        ("OnFailure", [crashed(1)], "Running"),
        ("Never", [done(0)], "Succeeded"),
        ("Never", [done(0), done(1)], "Failed"),
        ("Never", [done(1), RUN], "Running"),
    ],
)
def test_phase_of_main_containers(policy: str, main: list[Object], expected: str) -> None:
    assert phase(pod_of([], len(main), policy), [], named("c", main), is_terminal=False) == expected


@pytest.mark.parametrize(
    ("policy", "init", "statuses", "main", "expected"),
    [
        ("Always", ["init"], [WAIT], WAIT, "Pending"),
        ("Always", ["init"], [RUN], WAIT, "Pending"),
        ("Always", ["init"], [done(1)], WAIT, "Pending"),
        ("OnFailure", ["init"], [crashed(1)], WAIT, "Pending"),
        ("Never", ["init"], [done(1)], WAIT, "Failed"),
        ("Always", ["init"], [done(0)], RUN, "Running"),
        ("Always", ["init"], [RUN], crashed(1), "Running"),  # begun anew in a new sandbox
        ("Always", ["side"], [WAIT], WAIT, "Pending"),
        ("Always", ["side"], [RUN], RUN, "Running"),
        ("Always", ["side"], [crashed(1)], RUN, "Running"),
        ("Never", ["side"], [done(137)], done(0), "Succeeded"),
        ("Never", ["side"], [RUN], done(0), "Succeeded"),
    ],
)
def test_phase_with_init_containers(policy: str, init: list[str], statuses: list[Object], main: Object, expected: str) -> None:
    assert phase(pod_of(init, 1, policy), named("i", statuses), named("c", [main]), is_terminal=False) == expected


@pytest.mark.parametrize(("main", "expected"), [([done(0)], "Succeeded"), ([done(0), done(137)], "Failed"), ([WAIT], "Failed")])
def test_phase_at_the_end_is_terminal(main: list[Object], expected: str) -> None:
    assert phase(pod_of([], len(main)), [], named("c", main), is_terminal=True) == expected


@given(
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.lists(st.sampled_from([RUN, WAIT, done(0), done(1), crashed(0), crashed(1)]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["init", "side"]), max_size=3),
    st.data(),
)
def test_phase_is_always_one_and_never_terminal_for_always(policy: str, main: list[Object], init: list[str], data: st.DataObject) -> None:
    statuses = [data.draw(st.sampled_from([RUN, WAIT, done(0), done(1)])) for _ in init]
    pod = pod_of(init, len(main), policy)
    assert phase(pod, named("i", statuses), named("c", main), is_terminal=False) in (
        ("Pending", "Running") if policy == "Always" else ("Pending", "Running", "Succeeded", "Failed")
    )
    if RUN not in main:
        assert phase(pod, named("i", statuses), named("c", main), is_terminal=True) in ("Succeeded", "Failed")


def find(found: list[Object], kind: str) -> Object:
    return next(each for each in found if each["type"] == kind)


def test_a_transition_keeps_its_time_until_the_status_changes() -> None:
    pod = pod_of([], 1)
    first = conditions(pod, [], named("c", [WAIT]), "Pending", has_sandbox=True, old=[], now=NOW)
    second = conditions(pod, [], named("c", [WAIT]), "Pending", has_sandbox=True, old=first, now=NOW + 60)
    assert second == first
    third = conditions(pod, [], named("c", [RUN]), "Running", has_sandbox=True, old=second, now=NOW + 90)
    assert find(third, "Ready")["lastTransitionTime"] == moment(NOW + 90)
    assert find(third, "PodScheduled")["lastTransitionTime"] == moment(NOW)


def test_foreign_conditions_are_kept() -> None:
    foreign = {"type": "example.org/up", "status": "False", "reason": "Because"}
    assert foreign in conditions(pod_of([], 1), [], named("c", [RUN]), "Running", has_sandbox=True, old=[foreign], now=NOW)


@pytest.mark.parametrize(
    ("init", "statuses", "initialized"),
    [(["init"], [{**RUN, "ready": False}], False), (["init"], [done(0)], True), (["side"], [RUN], True), (["side"], [WAIT], False)],
)
def test_initialized(init: list[str], statuses: list[Object], initialized: bool) -> None:
    found = conditions(pod_of(init, 1), named("i", statuses), named("c", [WAIT]), "Pending", has_sandbox=True, old=[], now=NOW)
    assert (find(found, "Initialized")["status"] == "True") is initialized


@pytest.mark.parametrize(("phase_", "reason"), [("Succeeded", "PodCompleted"), ("Failed", "PodFailed")])
def test_a_pod_that_has_ended_is_not_ready(phase_: str, reason: str) -> None:
    found = conditions(pod_of([], 1), [], named("c", [done(0)]), phase_, has_sandbox=False, old=[], now=NOW)
    assert (find(found, "Ready")["status"], find(found, "Ready")["reason"]) == ("False", reason)


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    pod = pod_of([], 1)
    pod.metadata["deletionTimestamp"] = moment(NOW)
    found = conditions(pod, [], named("c", [RUN]), "Running", has_sandbox=True, old=[], now=NOW)
    assert find(found, "Ready")["status"] == "False"
    assert find(found, "ContainersReady")["status"] == "True"


def instance(state: ContainerState, attempt: int = 0, **more: Any) -> Container:
    return Container(f"id{attempt}", "s0", "c0", attempt, state, "sha256:1", "app:1", "app@sha256:1", NOW, NOW, **more)


def test_status_of_a_running_container_with_a_history() -> None:
    dead = instance(ContainerState.EXITED, 0, finished_at=NOW + 5, exit_code=137, reason="OOMKilled")
    seen = observed([], [instance(ContainerState.RUNNING, 1), dead], {"id1": Verdict(is_ready=False)})
    _, (status,) = container_statuses(pod_of([], 1), seen, Words("fake", {"id0": "too much"}))
    assert status == {
        "name": "c0", "image": "app:1", "imageID": "app@sha256:1", "containerID": "fake://id1", "ready": False, "started": True,
        "restartCount": 1, "state": {"running": {"startedAt": moment(NOW)}},
        "lastState": {"terminated": {
            "exitCode": 137, "reason": "OOMKilled", "message": "too much", "startedAt": moment(NOW), "finishedAt": moment(NOW + 5),
            "containerID": "fake://id0",
        }},
    }  # fmt: skip


def test_a_removed_predecessor_is_remembered() -> None:
    pod, words = pod_of([], 1), Words("fake")
    dead = instance(ContainerState.EXITED, 0, finished_at=NOW + 5, exit_code=1)
    _, main = container_statuses(pod, observed([], [dead]), words)
    both = Words("fake", old={"containerStatuses": main})
    _, (status,) = container_statuses(pod, observed([], [instance(ContainerState.RUNNING, 1)]), both)
    assert status["lastState"]["terminated"]["exitCode"] == 1
    again = Words("fake", old={"containerStatuses": [status]})
    _, (same,) = container_statuses(pod, observed([], [instance(ContainerState.RUNNING, 1)]), again)
    assert same == status


def test_a_container_the_runtime_lost_has_an_end_all_the_same() -> None:
    pod = pod_of([], 1)
    _, main = container_statuses(pod, observed([], [instance(ContainerState.RUNNING)]), Words("fake"))
    _, (status,) = container_statuses(pod, observed([], []), Words("fake", old={"containerStatuses": main}))
    assert status["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    _, (ended,) = container_statuses(pod, observed([], []), Words("fake", old={"containerStatuses": main}), is_terminal=True)
    assert ended["state"]["terminated"]["exitCode"] == 137


def test_waiting_takes_the_place_of_an_end_but_not_of_a_run() -> None:
    words = Words("fake", waiting={"c0": Trouble("ImagePullBackOff", "no such image", NOW)})
    dead = instance(ContainerState.EXITED, finished_at=NOW, exit_code=1)
    _, (status,) = container_statuses(pod_of([], 1), observed([], [dead]), words)
    assert status["state"] == {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1
    _, (status,) = container_statuses(pod_of([], 1), observed([], [instance(ContainerState.RUNNING)]), words)
    assert "running" in status["state"]


def full(ip: str = "10.0.0.2", **more: Any) -> Object:
    box = Sandbox("s0", "web", "default", "u", 0, SandboxState.READY, NOW, (ip,))
    seen = observed([box], [instance(ContainerState.RUNNING)])
    return pod_status(pod_of([], 1), seen, Words("fake"), host_ips=("192.168.1.2",), now=NOW, **more)


def test_the_patch_makes_the_apis_status_ours_and_then_is_none() -> None:
    known: Object = {"phase": "Pending", "reason": "Old", "podIPs": [{"ip": "10.0.0.9"}], "podIP": "10.0.0.9"}
    unready = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}
    known["conditions"] = [unready, {"type": "example.org/up", "status": "True"}]
    patch = status_patch("u", known, full(), is_sure=True)
    assert patch is not None
    assert patch["metadata"] == {"uid": "u"}
    assert {"type": "example.org/up", "status": "True"} not in patch["status"]["conditions"]
    after = merge(known, patch["status"])
    assert after["podIPs"] == [{"ip": "10.0.0.2"}]
    assert "reason" not in after
    assert "reason" not in find(after["conditions"], "Ready")
    assert {"type": "example.org/up", "status": "True"} in after["conditions"]
    assert status_patch("u", after, full(), is_sure=True) is None


def test_what_the_api_leaves_out_is_no_difference() -> None:
    normal = full()
    (status,) = normal["containerStatuses"]
    normal["containerStatuses"] = [{key: value for key, value in status.items() if value != {}}]
    normal["conditions"] = [{**each, "lastProbeTime": None} for each in normal["conditions"]]
    assert status_patch("u", normal, full(), is_sure=True) is None


def test_an_unsure_patch_takes_away_what_is_not_said() -> None:
    patch = status_patch("u", {}, full(), is_sure=False)
    assert patch is not None
    assert patch["status"]["reason"] is None
    assert find(patch["status"]["conditions"], "Ready")["message"] is None


def test_remembered_is_ours_with_what_others_set() -> None:
    own, api = full(), {"phase": "Unknown", "conditions": [{"type": "x", "status": "True"}, {"type": "Ready", "status": "False"}]}
    both = remembered(own, api)
    assert both["phase"] == "Running"
    assert find(both["conditions"], "x")["status"] == "True"
    assert find(both["conditions"], "Ready")["status"] == "True"
    assert remembered({}, api) == api


def test_an_ephemeral_container_is_told_that_it_will_not_run() -> None:
    pod = pod_of([], 1)
    pod.spec["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]
    status = pod_status(pod, observed([], []), Words("fake"), host_ips=(), now=NOW)
    told = status["ephemeralContainerStatuses"]
    assert [(each["name"], each["state"]["waiting"]["reason"]) for each in told] == [("debugger", "CreateContainerConfigError")]
    assert "not supported by this node" in told[0]["state"]["waiting"]["message"]
    patch = status_patch("u", {}, status, is_sure=True)
    assert patch is not None
    assert patch["status"]["ephemeralContainerStatuses"] == told
    assert "ephemeralContainerStatuses" not in full()


def test_a_refused_pod_has_no_containers() -> None:
    status = refused_status(pod_of([], 1), Ending("OutOfcpu", "too much"), now=NOW)
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert "containerStatuses" not in status


@given(st.lists(st.floats(0, 2000), max_size=20))
def test_delays_double_up_to_five_minutes_and_are_forgotten(pauses: list[float]) -> None:
    delay, now = None, NOW
    for good_seconds in pauses:
        failed_at = now + good_seconds
        due = due_at(delay, failed_at, failed_at)
        before = delay
        assert failed_at <= due <= failed_at + 300
        delay = tried(delay, failed_at, due)
        if before is None or failed_at - before.tried_at > 600:
            assert delay.seconds == 10
        else:
            assert delay.seconds == min(before.seconds * 2, 300)
        now = due


@given(st.floats(0.001, 1e8), st.sampled_from([10.0, 20.0, 40.0, 80.0, 160.0, 300.0]))
def test_the_wait_of_a_clock_set_back_comes_to_its_end(step: float, wait: float) -> None:
    """Asked again and again, as a worker does, while the failure keeps the old time."""
    delay, back = Delay(wait, NOW - 1), NOW - step
    assert any(due_at(delay, NOW, back + passed) <= back + passed for passed in (0, 10, 60, 150, wait))
    assert due_at(tried(delay, NOW, back), back + 1, back + 1) == back + 1 + min(wait * 2, 300), "the next failure waits in full"


def test_moments_and_durations() -> None:
    assert unix(moment(NOW), 0) == NOW
    assert unix("yesterday", 5) == 5
    assert [duration(each) for each in (10, 80, 160, 300)] == ["10s", "1m20s", "2m40s", "5m0s"]
