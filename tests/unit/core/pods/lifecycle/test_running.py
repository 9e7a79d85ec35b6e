"""Pods that run, end and are started anew: the service over a runtime in memory."""

from __future__ import annotations

import pytest
from rig.pods import PodWorld, pod

from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.ports import ProbeKind, ProbeResult, SpecRefused


async def test_a_pod_runs_and_the_cloud_is_told(world: PodWorld) -> None:
    await world.apply(pod())
    api = world.api()
    assert api["phase"] == "Running"
    assert {each["type"]: each["status"] for each in api["conditions"]} == {
        "PodReadyToStartContainers": "True", "Initialized": "True", "Ready": "True", "ContainersReady": "True", "PodScheduled": "True",
    }  # fmt: skip
    (status,) = api["containerStatuses"]
    assert status["ready"]
    assert status["started"]
    assert status["restartCount"] == 0
    assert status["containerID"] == f"fake://{world.runtime.one('main').id}"
    assert api["podIP"] == "10.88.0.2"
    assert api["podIPs"] == [{"ip": "10.88.0.2"}]
    assert api["hostIP"] == "192.168.4.10"
    assert api["qosClass"] == "BestEffort"
    assert [each.reason for each in world.events.told] == ["Pulled", "Created", "Started"]


async def test_a_running_pod_costs_no_task_and_no_message(world: PodWorld) -> None:
    await world.apply(pod())
    asked, calls = len(world.uplink.asked), len(world.runtime.calls)
    await world.advance(600)
    assert (len(world.uplink.asked), len(world.runtime.calls)) == (asked, calls)
    assert world.materials.mounted.count("web") >= 9  # volumes are brought up to date about once a minute


async def test_crash_loop_waits_10_20_40_seconds(world: PodWorld) -> None:
    await world.apply(pod())
    moments = []
    for _ in range(7):
        world.exit("main", 1)
        await world.settle()
        began = world.clock.now()
        while not world.runtime.running("main"):
            await world.advance(1)
        moments.append(round(world.clock.now() - began))
    assert moments == [0, 10, 20, 40, 80, 160, 300]
    assert world.container()["restartCount"] == 7
    assert world.container()["lastState"]["terminated"]["exitCode"] == 1


async def test_crash_loop_is_told_while_it_waits(world: PodWorld) -> None:
    await world.apply(pod())
    for _ in range(2):
        world.exit("main", 3)
        await world.settle()
    status = world.container()
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main pod=web_default(uid-web)")
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert not status["ready"]
    assert world.api()["phase"] == "Running"
    assert world.events.reasons.count("BackOff") == 1


async def test_ten_good_minutes_forgive(world: PodWorld) -> None:
    await world.apply(pod())
    for _ in range(2):
        world.exit("main", 1)
        await world.advance(11)
    await world.advance(601)
    world.exit("main", 1)
    await world.settle()
    assert world.runtime.running("main")


@pytest.mark.parametrize(
    ("policy", "code", "phase", "starts"),
    [
        ("Never", 0, "Succeeded", 1),
        ("Never", 1, "Failed", 1),
        ("OnFailure", 0, "Succeeded", 1),
        ("OnFailure", 1, "Running", 2),
        ("Always", 0, "Running", 2),
    ],
)
async def test_restart_policies(world: PodWorld, policy: str, code: int, phase: str, starts: int) -> None:
    await world.apply(pod(restartPolicy=policy))
    world.exit("main", code)
    await world.settle()
    assert (world.api()["phase"], world.starts()) == (phase, starts)


async def test_what_has_run_its_course_is_cleaned_but_for_its_container(world: PodWorld) -> None:
    await world.apply(pod(restartPolicy="Never"))
    world.exit("main", 0)
    await world.settle()
    assert not world.materials.left
    assert not world.cgroups.made
    assert [each.name for each in world.runtime.instances.values()] == ["main"]  # for its log
    await world.advance(300)
    assert world.starts() == 1


async def test_init_containers_run_one_after_the_other(world: PodWorld) -> None:
    await world.apply(pod(initContainers=[{"name": "one"}, {"name": "two"}]))
    assert [each.name for each in world.runtime.running()] == ["one"]
    assert world.api()["phase"] == "Pending"
    assert world.container()["state"]["waiting"]["reason"] == "PodInitializing"
    assert world.condition("Initialized")["message"] == "containers with incomplete status: [one two]"
    world.exit("one", 0)
    await world.settle()
    assert [each.name for each in world.runtime.running()] == ["two"]
    world.exit("two", 1)
    await world.settle()
    assert [each.name for each in world.runtime.running()] == ["two"]  # again, not from the first
    world.exit("two", 0)
    await world.settle()
    assert [each.name for each in world.runtime.running()] == ["main"]
    assert world.condition("Initialized")["status"] == "True"
    assert world.starts("one") == 1


async def test_a_failed_init_container_ends_a_pod_that_never_restarts(world: PodWorld) -> None:
    world.runtime.exits["one"] = [1]
    await world.apply(pod(initContainers=[{"name": "one"}], restartPolicy="Never"))
    assert world.api()["phase"] == "Failed"
    assert not world.starts()


async def test_sidecars_start_first_go_on_and_end_last_in_reverse(world: PodWorld) -> None:
    side = [{"name": "log", "restartPolicy": "Always"}, {"name": "net", "restartPolicy": "Always"}]
    await world.apply(pod(initContainers=side, restartPolicy="Never"))
    started = [name for call, name in world.runtime.calls if call == "start_container"]
    assert started == ["log", "net", "main"]
    world.exit("log", 1)
    await world.settle()
    assert world.starts("log") == 2  # although the pod's policy is Never
    world.exit("main", 0)
    await world.settle()
    stopped = [name.split(":")[0] for call, name in world.runtime.calls if call == "stop_container"]
    assert stopped == ["net", "log"]
    assert world.api()["phase"] == "Succeeded"


async def test_a_sidecar_gates_the_next_until_it_has_started(world: PodWorld) -> None:
    world.prober.verdicts["c2", ProbeKind.STARTUP] = ProbeResult.UNKNOWN
    await world.apply(pod(initContainers=[{"name": "side", "restartPolicy": "Always"}]))
    assert [each.name for each in world.runtime.running()] == ["side"]
    world.prober.say("uid-web", "c2", ProbeKind.STARTUP, ProbeResult.SUCCESS)
    await world.settle()
    assert [each.name for each in world.runtime.running()] == ["side", "main"]


async def test_a_failed_liveness_probe_restarts_with_the_probes_grace(world: PodWorld) -> None:
    probe = {"exec": {"command": ["true"]}, "terminationGracePeriodSeconds": 7}
    await world.apply(pod(containers=[{"name": "main", "livenessProbe": probe}]))
    first = world.runtime.one("main")
    world.prober.say("uid-web", first.id, ProbeKind.LIVENESS, ProbeResult.FAILURE)
    await world.settle()
    assert world.runtime.one("main").id != first.id
    assert ("stop_container", "main:7") in world.runtime.calls
    assert "Killing" in world.events.reasons
    assert world.container()["restartCount"] == 1


async def test_readiness_makes_the_condition(world: PodWorld) -> None:
    await world.apply(pod())
    world.prober.say("uid-web", world.runtime.one("main").id, ProbeKind.READINESS, ProbeResult.FAILURE)
    await world.settle()
    assert world.api()["containerStatuses"][0]["ready"] is False
    ready = next(each for each in world.api()["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [main]"
    world.prober.say("uid-web", world.runtime.one("main").id, ProbeKind.READINESS, ProbeResult.SUCCESS)
    await world.settle()
    ready = next(each for each in world.api()["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "True"
    assert "reason" not in ready


async def test_a_readiness_gate_is_somebody_elses(world: PodWorld) -> None:
    await world.apply(pod(readinessGates=[{"conditionType": "example.org/up"}]))
    assert world.condition("Ready")["reason"] == "ReadinessGatesNotReady"
    body = world.cloud.pods["web"]
    gate = {"type": "example.org/up", "status": "True"}
    body["status"]["conditions"] = [*body["status"]["conditions"], gate]
    await world.apply(body)
    assert world.condition("Ready")["status"] == "True"
    assert gate in world.api()["conditions"]


async def test_a_changed_image_restarts_that_container_only(world: PodWorld) -> None:
    world.runtime.images.add("app:2")
    await world.apply(pod(containers=[{"name": "main"}, {"name": "other"}], restartPolicy="Never"))
    other = world.runtime.one("other").id
    body = world.cloud.pods["web"]
    body["spec"]["containers"][0]["image"] = "app:2"
    await world.apply(body)
    assert world.runtime.one("main").image_name == "app:2"
    assert world.runtime.one("other").id == other
    assert world.api()["phase"] == "Running"


async def test_other_defaults_of_another_api_server_restart_nothing(world: PodWorld) -> None:
    await world.apply(pod())
    before, calls = world.runtime.one("main"), len(world.runtime.calls)
    body = world.cloud.pods["web"]
    body["spec"]["containers"][0]["newField"] = "default"
    await world.apply(body)
    assert world.runtime.one("main") == before
    assert len(world.runtime.calls) == calls


async def test_a_pod_that_makes_no_sense_is_told_once_and_hurts_nobody(world: PodWorld, caplog: pytest.LogCaptureFixture) -> None:
    body = pod("odd")
    body["spec"]["containers"] = ["what", 7]
    await world.apply(body)
    await world.apply(pod())
    await world.advance(300)
    assert world.api()["phase"] == "Running"
    assert caplog.text.count("pods.sync.broken") <= 1


async def test_a_service_that_failed_begins_again(world: PodWorld) -> None:
    await world.apply(pod())
    before = world.runtime.one("main")
    await world.stop()
    await world.start()
    assert world.runtime.one("main") == before
    world.exit("main", 1)
    await world.settle()
    assert world.api()["containerStatuses"][0]["restartCount"] == 1


async def test_a_lost_sandbox_is_made_anew_with_everything_in_it(world: PodWorld) -> None:
    world.runtime.exits["one"] = [0, 0]
    await world.apply(pod(initContainers=[{"name": "one"}]))
    (box,) = world.runtime.boxes
    await world.runtime.stop_sandbox(box)
    await world.settle()
    assert world.starts("one") == 2
    assert world.runtime.one("main").attempt == 1
    assert max(each.attempt for each in world.runtime.boxes.values()) == 1
    assert world.api()["podIP"] == world.status()["podIP"] != "10.88.0.2"
    assert [each["ip"] for each in world.api()["podIPs"]] == [world.status()["podIP"]]
    assert "SandboxChanged" in world.events.reasons


async def test_only_one_dead_container_of_a_name_is_kept(world: PodWorld) -> None:
    await world.apply(pod())
    for _ in range(4):
        world.exit("main", 1)
        await world.advance(300)
    assert len(world.runtime.instances) == 2
    assert world.container()["restartCount"] == 4


async def test_a_container_that_cannot_be_configured_says_so_and_is_tried_again(world: PodWorld) -> None:
    world.materials.refused["main"] = SpecRefused('configmap "cfg" not found')
    await world.apply(pod(containers=[{"name": "main"}, {"name": "other"}]))
    waiting = world.container()["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'configmap "cfg" not found'}
    assert world.runtime.running("other")
    assert world.api()["phase"] == "Pending"
    del world.materials.refused["main"]
    await world.advance(3)
    assert world.runtime.running("main")


async def test_a_start_that_fails_waits_like_a_crash(world: PodWorld) -> None:
    world.runtime.failures["start_container"] = [RuntimeFailed("no such program", reason="StartError") for _ in range(3)]
    await world.apply(pod())
    status = world.container()
    assert status["state"]["waiting"]["reason"] == "RunContainerError"
    assert status["lastState"]["terminated"]["exitCode"] == 128
    assert status["lastState"]["terminated"]["reason"] == "StartError"
    await world.advance(11)
    assert world.container()["state"]["waiting"]["reason"] in ("RunContainerError", "CrashLoopBackOff")
    await world.advance(60)
    assert world.api()["phase"] == "Running"


async def test_a_sandbox_that_cannot_be_made_is_tried_again_slowly(world: PodWorld) -> None:
    world.runtime.failures["run_sandbox"] = [RuntimeFailed("no network") for _ in range(3)]
    await world.apply(pod())
    assert world.events.reasons == ["FailedCreatePodSandBox"]
    await world.advance(20)
    assert world.api()["phase"] == "Running"


async def test_volumes_that_are_missing_keep_the_pod_waiting(world: PodWorld) -> None:
    world.materials.missing = 'volume "v": configmap "cfg" not found'
    await world.apply(pod())
    assert "FailedMount" in world.events.reasons
    assert world.container()["state"]["waiting"]["reason"] == "ContainerCreating"
    world.materials.missing = ""
    await world.advance(30)
    assert world.api()["phase"] == "Running"


async def test_post_start_that_fails_kills(world: PodWorld) -> None:
    world.hooks.failing.add("bad")
    lifecycle = {"postStart": {"exec": {"command": ["bad"]}}}
    await world.apply(pod(containers=[{"name": "main", "lifecycle": lifecycle}]))
    assert "FailedPostStartHook" in world.events.reasons
    assert world.container()["state"]["waiting"]["reason"] == "PostStartHookError"
    world.hooks.failing.clear()
    await world.advance(20)
    assert world.container()["state"].keys() == {"running"}


async def test_a_deadline_ends_the_pod(world: PodWorld) -> None:
    await world.apply(pod(activeDeadlineSeconds=60))
    await world.advance(59)
    assert world.api()["phase"] == "Running"
    await world.advance(2)
    assert (world.api()["phase"], world.api()["reason"]) == ("Failed", "DeadlineExceeded")
    await world.advance(600)
    assert world.starts() == 1


async def test_a_pod_the_node_does_not_take_is_failed(world: PodWorld) -> None:
    world.allocatable = {"cpu": 1000, "memory": 1 << 30, "pods": 10}
    await world.apply(pod(containers=[{"name": "main", "resources": {"requests": {"cpu": "2"}}}]))
    assert (world.api()["phase"], world.api()["reason"]) == ("Failed", "OutOfcpu")
    assert not world.runtime.calls
    await world.restart()
    assert not world.runtime.calls


async def test_pods_of_other_nodes_and_broken_ones_are_ignored(world: PodWorld) -> None:
    await world.apply(pod("far", nodeName="edge-2"))
    body = pod("broken")
    del body["spec"]["containers"]
    await world.apply(body)
    body = pod("odd", restartPolicy="Sometimes")
    await world.apply(body)
    assert not world.service.pods()
    assert not world.runtime.calls


async def test_a_termination_message_is_told(world: PodWorld) -> None:
    await world.apply(pod(restartPolicy="Never"))
    file = world.materials.logs / "uid-web" / "main" / "0.message"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 5000)
    world.exit("main", 2)
    await world.settle()
    assert world.container()["state"]["terminated"]["message"] == "x" * 4096
    assert world.api()["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 2


async def test_evicted(world: PodWorld) -> None:
    await world.apply(pod())
    await world.service.evict("uid-web", reason="Evicted", message="The node was low on resource: memory.", grace_seconds=0)
    await world.settle()
    assert (world.api()["phase"], world.api()["reason"]) == ("Failed", "Evicted")
    assert ("stop_container", "main:2") in world.runtime.calls
    await world.restart()
    assert (world.status()["phase"], world.status()["reason"]) == ("Failed", "Evicted")
    assert world.starts() == 1
