"""The cloud protocol's edge side: pushes, statuses upward, deletion, mirror pods, offline and back (docs/protocol.md, pods)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from rig.pods import NODE, PodWorld, break_link, pod, static_pod

from pinnace.core.base.contract.envelopes import load_body, reply
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import RemoteError
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.runtime import ContainerState, RuntimeFailed
from pinnace.ext.records import Envelope


def asked(world: PodWorld, operation: str) -> list[Envelope]:
    return [each for each in world.uplink.asked if each.operation == operation]


async def test_status_goes_as_a_text_with_the_uid(world: PodWorld) -> None:
    await world.apply(pod())
    first = asked(world, "patch")[0]
    assert (first.source, first.group, first.resource) == ("edged", "meta", "default/podpatch/web")
    assert isinstance(json.loads(first.body), str)  # upstream's cloud takes a text
    assert load_body(first)["metadata"] == {"uid": "uid-web"}


async def test_an_echo_of_the_own_status_is_not_answered(world: PodWorld) -> None:
    await world.apply(pod())
    count = len(world.uplink.asked)
    assert count <= 3
    await world.deliver(ObjectChange("update", ResourceKey("pod", "default", "web"), "", json.dumps(world.cloud.pods["web"]).encode()))
    await world.settle()
    assert len(world.uplink.asked) == count


async def test_deletion_in_full(world: PodWorld) -> None:
    await world.apply(pod())
    await world.delete("web")
    (request,) = asked(world, "delete")
    assert request.resource == "default/pod/web"
    assert load_body(request) == {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-web"}}
    last = load_body(asked(world, "patch")[-1])["status"]
    assert last["phase"] in ("Failed", "Succeeded")
    assert world.uplink.asked.index(request) > world.uplink.asked.index(asked(world, "patch")[-1])
    assert "web" not in world.cloud.pods
    assert not world.service.pods()
    assert not world.runtime.instances
    assert not world.runtime.boxes
    assert not world.materials.left
    assert not world.cgroups.made


async def test_an_older_update_does_not_take_a_deletion_back(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    older = world.cloud.write(world.cloud.pods["web"])
    await world.delete("web", grace=10)
    await world.service.changed(older)
    await world.advance(12)
    assert "web" not in world.cloud.pods


async def test_the_pre_stop_hook_shares_the_grace(world: PodWorld) -> None:
    lifecycle = {"preStop": {"exec": {"command": ["bye"]}}}
    await world.apply(pod(containers=[{"name": "main", "lifecycle": lifecycle}]))
    await world.delete("web", grace=20)
    assert world.hooks.ran == [("main", "bye", 20)]
    assert ("stop_container", "main:20") in world.runtime.calls


async def test_a_shorter_grace_takes_the_place_of_a_longer_one(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    await world.delete("web", grace=300)
    await world.advance(5)
    assert world.runtime.running("main")
    assert not [each for each in world.status()["conditions"] if each["type"] == "Ready" and each["status"] == "True"]
    await world.delete("web", grace=3)
    await world.advance(3)
    assert not world.runtime.running("main")
    assert "web" not in world.cloud.pods


async def test_a_plain_delete_ends_the_pod_at_once(world: PodWorld) -> None:
    await world.apply(pod())
    world.cloud.downlink.append(world.cloud.remove("web"))
    await world.settle()
    assert not world.runtime.instances
    assert not world.service.pods()
    assert not asked(world, "delete")


async def test_a_delete_stub_without_uid_counts(world: PodWorld) -> None:
    await world.apply(pod())
    world.cloud.pods.clear()
    stub = {"metadata": {"namespace": "default", "name": "web"}, "spec": {"containers": None}}
    await world.deliver(ObjectChange("delete", ResourceKey("pod", "default", "web"), "", json.dumps(stub).encode()))
    await world.settle()
    assert not world.runtime.instances


async def test_a_delete_of_another_uid_is_ignored(world: PodWorld) -> None:
    await world.apply(pod())
    other = pod(uid="older")
    await world.service.changed(ObjectChange("delete", ResourceKey("pod", "default", "web"), "", json.dumps(other).encode()))
    await world.settle()
    assert world.runtime.running("main")


async def test_a_recreated_pod_waits_for_the_old_one(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod(uid="one"))
    old = world.runtime.one("main")
    await world.apply(pod(uid="two"))
    assert world.runtime.running("main") == [old]
    await world.advance(31)
    assert [each.uid for each in world.service.pods()] == ["two"]
    assert world.runtime.one("main").id != old.id
    assert len(world.runtime.boxes) == 1


async def test_a_recreated_pod_that_is_deleted_meanwhile_never_starts(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    await world.apply(pod(uid="uid-2"))
    await world.deliver(ObjectChange("delete", ResourceKey("pod", "default", "web"), "", b"{}"))
    await world.advance(40)
    assert world.starts() == 1
    assert not world.service.pods()


async def test_an_image_on_its_way_does_not_hold_up_a_deletion(world: PodWorld) -> None:
    world.runtime.images.gate = asyncio.Event()
    await world.apply(pod(containers=[{"name": "main", "image": "far:1"}]))
    await world.delete("web")
    assert "web" not in world.cloud.pods
    assert world.runtime.images.under_way == 0


async def test_a_hook_does_not_hold_up_a_deletion(world: PodWorld) -> None:
    """postStart runs for ever; the deletion lets go of it."""
    forever = asyncio.Event()

    async def run(*_: object, **__: object) -> None:
        await forever.wait()

    world.hooks.run = run  # type: ignore[method-assign]
    await world.apply(pod(containers=[{"name": "main", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]))
    await world.delete("web")
    assert "web" not in world.cloud.pods


async def test_what_does_not_go_up_goes_later_the_newest_only(world: PodWorld) -> None:
    world.cloud.refuse = break_link
    await world.apply(pod())
    assert world.api()["phase"] == "Pending"
    world.exit("main", 1)
    await world.settle()
    world.cloud.refuse = lambda _: None
    count = len(asked(world, "patch"))
    await world.advance(11)
    assert world.api()["phase"] == "Running"
    assert world.api()["containerStatuses"][0]["restartCount"] == 1
    assert len(asked(world, "patch")) == count + 1


async def test_a_pod_the_api_does_not_know_is_let_alone(world: PodWorld) -> None:
    await world.apply(pod())
    world.cloud.pods.clear()
    world.exit("main", 1)
    await world.advance(60)
    missing = [each for each in asked(world, "patch")]
    await world.advance(60)
    assert len(asked(world, "patch")) == len(missing)
    assert world.runtime.running("main")  # until the cloud says otherwise


async def test_a_refused_status_is_tried_again(world: PodWorld) -> None:
    answers = iter(["InternalError", "InternalError"])
    real = world.cloud.answer

    def answer(envelope: Envelope) -> Envelope:
        reason = next(answers, "")
        if not reason:
            return real(envelope)
        return reply(envelope, "it is broken", group="resource", operation="error")

    world.uplink.answer = answer
    await world.apply(pod())
    await world.advance(31)
    assert world.api()["phase"] == "Running"


async def test_a_write_at_the_same_time_is_no_other_pod(world: PodWorld) -> None:
    modified = "the object has been modified; please apply your changes to the latest version and try again"
    world.cloud.refuse = lambda _: RemoteError(f'Operation cannot be fulfilled on pods "web": {modified}', reason="Conflict", code=409)
    await world.apply(pod())
    world.cloud.refuse = lambda _: None
    await world.advance(11)
    assert world.api()["phase"] == "Running"


async def test_a_status_that_is_invalid_waits_for_a_better_one(world: PodWorld, caplog: pytest.LogCaptureFixture) -> None:
    invalid = RemoteError('Pod "web" is invalid: status.podIPs: Invalid value: "x"', reason="Invalid", code=422)
    await world.apply(pod())
    world.cloud.refuse = lambda envelope: invalid if "137" in str(load_body(envelope)) else None
    world.exit("main", 137)
    await world.advance(1)
    count = len(asked(world, "patch"))
    await world.advance(60)
    assert len(asked(world, "patch")) == count, "the same is not sent again"
    assert "pods.status.refused" in caplog.text
    world.cloud.refuse = lambda _: None
    world.exit("main", 1)
    await world.advance(1)
    assert world.api()["containerStatuses"][0]["restartCount"] == 1


async def test_what_somebody_else_wrote_is_put_right(world: PodWorld) -> None:
    """A cluster that lost sight of the node calls its pods unready."""
    await world.apply(pod())
    body = world.cloud.pods["web"]
    conditions = [{**each, "status": "False"} if each["type"] == "Ready" else each for each in body["status"]["conditions"]]
    await world.apply({**body, "status": {**body["status"], "conditions": conditions}})
    ready = next(each for each in world.api()["conditions"] if each["type"] == "Ready")
    assert ready["status"] == "True"


async def test_the_cloud_is_asked_again_when_the_deletion_does_not_come(world: PodWorld) -> None:
    await world.apply(pod())
    world.cloud.pods["web"]["metadata"]["finalizers"] = ["example.org/wait"]
    real = world.cloud.answer

    def answer(envelope: Envelope) -> Envelope:
        return reply(envelope, "OK", group="resource") if envelope.operation == "delete" else real(envelope)

    world.uplink.answer = answer
    await world.delete("web")
    await world.advance(60)
    assert 2 <= len(asked(world, "delete")) <= 5
    world.uplink.answer = real
    await world.advance(120)
    assert not world.service.pods()


# Offline, restarts, reboots.


async def test_an_agent_that_restarts_takes_up_what_runs(world: PodWorld) -> None:
    await world.apply(pod(initContainers=[{"name": "one"}]))
    world.exit("one", 0)
    await world.advance(30)
    running, calls = world.runtime.one("main"), len(world.runtime.calls)
    await world.restart()
    assert world.runtime.one("main") == running
    assert len(world.runtime.calls) == calls
    assert world.prober.watched == {running.id: True}
    assert world.prober.started_at[running.id] == running.started_at > 0
    assert not asked(world, "patch")
    assert world.status()["phase"] == "Running"


async def test_what_was_said_of_a_pod_while_the_agent_was_down_is_put_right(world: PodWorld) -> None:
    """A cluster that lost sight of the node calls its pods unready; on the node nothing has changed."""
    await world.apply(pod())
    await world.advance(30)
    await world.restart(online=False)
    body = world.cloud.pods["web"]
    conditions = [{**each, "status": "False"} if each["type"] == "Ready" else each for each in body["status"]["conditions"]]
    await world.uplink.connect()
    await world.apply({**body, "status": {**body["status"], "conditions": conditions}})
    assert next(each for each in world.api()["conditions"] if each["type"] == "Ready")["status"] == "True"


async def test_a_deletion_that_comes_when_all_has_ended(world: PodWorld) -> None:
    await world.apply(pod(restartPolicy="Never"))
    world.uplink.disconnect()
    world.exit("main", 0)
    await world.advance(30)
    assert not world.materials.left
    await world.uplink.connect()
    await world.delete("web")
    assert len(asked(world, "delete")) == 1
    assert "web" not in world.cloud.pods
    assert not world.service.pods()
    assert not world.runtime.instances


async def test_what_an_agent_could_not_say_its_successor_says(world: PodWorld) -> None:
    await world.apply(pod())
    world.uplink.disconnect()
    world.exit("main", 1)
    await world.advance(30)
    await world.restart()
    await world.uplink.connect()
    await world.settle()
    assert world.api()["containerStatuses"][0]["restartCount"] == 1


async def test_restart_counts_and_last_state_survive_the_agent(world: PodWorld) -> None:
    await world.apply(pod())
    for _ in range(2):
        world.exit("main", 5)
        await world.advance(30)
    await world.restart()
    assert world.container()["restartCount"] == 2
    assert world.container()["lastState"]["terminated"]["exitCode"] == 5
    world.exit("main", 6)
    await world.settle()
    assert world.container()["restartCount"] == 3


async def test_an_agent_that_ended_between_making_and_starting_counts_no_restart(world: PodWorld) -> None:
    await world.apply(pod())
    await world.stop()
    (made,) = world.runtime.instances.values()
    world.runtime.instances[made.id] = replace(made, state=ContainerState.CREATED, started_at=0.0)
    await world.restart()
    assert world.runtime.one("main").id != made.id
    assert world.container()["restartCount"] == 0
    assert len(world.runtime.instances) == 1


async def test_counts_survive_a_runtime_that_forgot_everything(world: PodWorld) -> None:
    await world.apply(pod())
    world.exit("main", 5)
    await world.advance(30)
    await world.stop()
    world.runtime.boxes.clear()
    world.runtime.instances.clear()
    await world.restart()
    assert world.runtime.one("main").attempt == 2
    assert world.container()["restartCount"] == 2


async def test_a_runtime_that_forgot_everything_makes_nothing_run_twice(world: PodWorld) -> None:
    """As CRI-O does after a power cut."""
    await world.apply(pod("never", restartPolicy="Never"))
    await world.apply(pod("half", containers=[{"name": "done"}, {"name": "cut"}], restartPolicy="OnFailure"))
    world.exit("done", 0)
    await world.settle()
    await world.stop()
    world.runtime.boxes.clear()
    world.runtime.instances.clear()
    await world.restart()
    assert world.api("never")["phase"] == "Failed"
    assert world.container(of="never")["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert world.api("half")["phase"] == "Running"
    assert [(each.name, each.attempt) for each in world.runtime.running()] == [("cut", 1)]
    statuses = {each["name"]: each for each in world.api("half")["containerStatuses"]}
    assert statuses["done"]["state"]["terminated"]["exitCode"] == 0
    assert (statuses["done"]["restartCount"], statuses["cut"]["restartCount"]) == (0, 1)


async def test_ten_pods_come_back_from_the_store_after_a_reboot_offline(world: PodWorld) -> None:
    for index in range(10):
        await world.apply(pod(f"p{index}", restartPolicy=("Always", "OnFailure")[index % 2]))
    await world.stop()
    world.runtime.reboot()
    world.uplink.disconnect()
    await world.restart(online=False)
    assert {each.status["phase"] for each in world.service.pods()} == {"Running"}
    assert len(world.runtime.running()) == 10
    assert not world.uplink.asked
    assert all(each["restartCount"] == 1 for each in (world.container(of=f"p{index}") for index in range(10)))


async def test_a_pod_that_never_restarts_stays_down_after_a_reboot(world: PodWorld) -> None:
    await world.apply(pod(restartPolicy="Never"))
    await world.stop()
    world.runtime.reboot()
    await world.restart()
    assert world.api()["phase"] == "Failed"
    assert world.container()["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert world.starts() == 1


async def test_what_has_ended_is_remembered_when_the_runtime_has_nothing_left(world: PodWorld) -> None:
    await world.apply(pod(restartPolicy="Never"))
    world.exit("main", 0)
    await world.settle()
    await world.stop()
    world.runtime.instances.clear()
    world.runtime.boxes.clear()
    await world.restart()
    assert world.status()["phase"] == "Succeeded"
    assert world.container()["state"]["terminated"]["exitCode"] == 0
    assert world.starts() == 1


async def test_back_online_nothing_restarts_and_what_changed_is_told(world: PodWorld) -> None:
    await world.apply(pod("stays"))
    await world.apply(pod("goes"))
    await world.apply(pod("crashes", containers=[{"name": "crash"}]))
    stays = next(each for each in world.runtime.running() if each.labels["io.kubernetes.pod.uid"] == "uid-stays")
    world.uplink.disconnect()
    world.exit("crash", 1)
    await world.advance(60)
    await world.uplink.connect()
    for change in (world.cloud.begin_deletion("goes"), world.cloud.write(pod("comes"))):
        world.cloud.downlink.append(change)
    await world.settle()
    assert {each.name for each in world.service.pods()} == {"stays", "crashes", "comes"}
    assert stays in world.runtime.running()
    assert world.api("crashes")["containerStatuses"][0]["restartCount"] == 1
    assert len(world.runtime.running()) == 3


async def test_deleted_while_the_agent_was_down(world: PodWorld) -> None:
    """Its row went with the restored or pruned store: what the runtime still has is ended, with the grace it carries."""
    await world.apply(pod())
    await world.apply(pod("other"))
    await world.stop()
    del world.objects.stored[ResourceKey("pod", "default", "web")]
    await world.restart()
    assert {each.uid for each in world.runtime.boxes.values()} == {"uid-other"}
    assert ("stop_container", "main:30") in world.runtime.calls
    assert world.materials.left == {"uid-other"}


async def test_recreated_while_the_agent_was_down(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod(uid="one"))
    await world.stop()
    await world.objects.apply([world.cloud.write(pod(uid="two"))])
    await world.restart()
    assert len(world.runtime.running()) == 1
    await world.advance(31)
    assert {each.uid for each in world.runtime.boxes.values()} == {"two"}


async def test_a_deletion_that_was_under_way_goes_on(world: PodWorld) -> None:
    world.runtime.deaf.add("main")
    await world.apply(pod())
    await world.delete("web", grace=100)
    await world.advance(5)
    await world.restart()
    await world.advance(101)
    assert "web" not in world.cloud.pods
    assert not world.runtime.boxes


async def test_terminating_offline_ends_and_waits_for_the_cloud(world: PodWorld) -> None:
    await world.apply(pod())
    change = world.cloud.begin_deletion("web")
    world.cloud.refuse = break_link
    await world.deliver(change)
    await world.settle()
    assert not world.runtime.running()
    world.uplink.disconnect()
    await world.advance(100)
    world.cloud.refuse = lambda _: None
    await world.uplink.connect()
    await world.settle()
    assert "web" not in world.cloud.pods
    assert not world.service.pods()


async def test_rows_of_pods_that_are_no_more_are_dropped(world: PodWorld) -> None:
    await world.apply(pod())
    await world.advance(15)
    assert ResourceKey("podstatus", "default", "web") in world.objects.stored
    await world.delete("web")
    await world.advance(15)
    assert not world.objects.stored


# Static pods.


async def test_a_static_pod_runs_before_the_first_contact_and_gets_its_mirror(world: PodWorld) -> None:
    world.uplink.disconnect()
    world.service.set_static([static_pod()])
    await world.settle()
    assert world.runtime.running("main")
    await world.uplink.connect()
    await world.settle()
    name = f"local-{NODE}"
    mirror = world.cloud.pods[name]
    assert mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] == "hash-local"
    assert mirror["status"]["phase"] == "Running"
    assert len(world.runtime.running()) == 1


async def test_static_pods_outlive_the_agent_though_their_files_are_read_late(world: PodWorld) -> None:
    world.service.set_static([static_pod()])
    await world.apply(pod("goes"))
    await world.settle()
    before = next(each for each in world.runtime.running() if each.labels["io.kubernetes.pod.uid"] == "hash-local")
    await world.stop()
    del world.objects.stored[ResourceKey("pod", "default", "goes")]
    await world.restart(static=None)
    await world.advance(120)
    assert len(world.runtime.running()) == 2  # which of them are not wanted is not known yet
    assert not world.service.loaded.is_set()
    world.service.set_static([static_pod()])
    await world.settle()
    assert world.runtime.running() == [before]
    assert world.materials.left == {"hash-local"}


async def test_a_mirror_that_is_deleted_is_made_again(world: PodWorld) -> None:
    world.service.set_static([static_pod()])
    await world.settle()
    name = f"local-{NODE}"
    await world.delete(name)
    await world.advance(30)
    assert world.cloud.pods[name]["status"]["phase"] == "Running"
    assert "deletionTimestamp" not in world.cloud.pods[name]["metadata"]
    assert world.starts() == 1


async def test_a_static_pod_that_changes_is_another_pod(world: PodWorld) -> None:
    world.service.set_static([static_pod()])
    await world.settle()
    changed = static_pod()
    changed.metadata["uid"] = "hash-2"
    changed.metadata["annotations"]["kubernetes.io/config.hash"] = "hash-2"
    world.service.set_static([changed])
    await world.advance(60)
    assert [each.uid for each in world.service.pods()] == ["hash-2"]
    assert len(world.runtime.running()) == 1
    assert world.cloud.pods[f"local-{NODE}"]["metadata"]["annotations"]["kubernetes.io/config.mirror"] == "hash-2"


async def test_a_static_pod_whose_file_is_gone_goes_with_its_mirror(world: PodWorld) -> None:
    world.service.set_static([static_pod()])
    await world.settle()
    world.service.set_static([])
    await world.advance(30)
    assert not world.runtime.running()
    assert not world.cloud.pods


@pytest.mark.parametrize("kind", ["configmap"])
async def test_what_a_pod_waits_for_is_looked_at_when_it_comes(world: PodWorld, kind: str) -> None:
    world.materials.missing = "configmap cfg not found"
    await world.apply(pod(volumes=[{"name": "v", "configMap": {"name": "cfg"}}]))
    world.materials.missing = ""
    await world.service.looked_for(ObjectChange("insert", ResourceKey(kind, "default", "other"), "1", b"{}"))
    await world.settle()
    assert not world.runtime.running()
    await world.service.looked_for(ObjectChange("insert", ResourceKey(kind, "default", "cfg"), "1", b"{}"))
    await world.settle()
    assert world.runtime.running("main")


async def test_a_pod_that_cannot_be_killed_is_told_and_its_servers_given_up(world: PodWorld) -> None:
    """Then it is tried again, and the pod is gone as soon as it ends."""
    await world.apply(pod())
    stuck = RuntimeFailed("container main does not end: it waits in the kernel", reason="KillContainerError")
    world.runtime.failures["stop_container"] = [stuck]
    await world.delete("web")
    message = next(each.message for each in world.events.told if each.reason == "FailedKillPod")
    assert message == "error killing pod: container main does not end: it waits in the kernel"
    assert world.materials.abandoned == ["uid-web"]
    assert "web" in world.cloud.pods
    await world.advance(2)
    assert "web" not in world.cloud.pods
    assert world.materials.abandoned == ["uid-web"]
