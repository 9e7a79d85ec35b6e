"""Whole pods on crun and over CRI: run, crash, delete, agent restarts, a reboot without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig.cri import CriHome
from rig.podnode import PodNode
from rig.pods import Object
from rig.pods import pod as any_pod

from pinnace.core.base.contract.keys import LOCAL_POD_STATUS, ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store

pytestmark = [pytest.mark.containers, pytest.mark.root]

IMAGE = "pinnace.test/busybox:1"


def pod(name: str, script: str = "exec sleep 1000", *, containers: list[Object] | None = None, **spec: Any) -> Object:
    main = containers or [{"name": "main", "command": ["/bin/sh", "-c", script]}]
    spec = {"hostNetwork": True, "terminationGracePeriodSeconds": 3, **spec}
    made = any_pod(name, containers=[{"image": IMAGE, "imagePullPolicy": "IfNotPresent", **each} for each in main], **spec)
    made["spec"].setdefault("initContainers", [])
    for each in made["spec"]["initContainers"]:
        each["image"] = IMAGE
    return made


async def test_a_pod_runs_until_it_is_deleted(node: PodNode) -> None:
    await node.apply(pod("web"))
    await node.until(lambda: node.api("web").get("phase") == "Running", "Running in the API")
    assert node.api("web")["podIP"] == "127.0.0.1"
    (status,) = node.api("web")["containerStatuses"]
    assert status["ready"]
    assert status["containerID"].startswith(f"{node.runtime.name}://")
    await node.delete("web")
    await node.until(lambda: "web" not in node.cloud.pods and not node.service.pods(), "the deletion")
    assert not await node.runtime.containers()
    assert not await node.runtime.sandboxes()
    assert not list((node.folder / "kubelet/pods").iterdir())


async def test_a_crashing_pod_counts_and_waits(node: PodNode) -> None:
    await node.apply(pod("crash", "echo no >&2; exit 3"))
    await node.until(lambda: "CrashLoopBackOff" in str(node.api("crash")), "the back-off")
    (status,) = node.api("crash")["containerStatuses"]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 3


async def test_the_last_words_of_a_log(node: PodNode) -> None:
    script = ["/bin/sh", "-c", "echo one; echo two >&2; exit 1"]
    main = {"name": "main", "command": script, "terminationMessagePolicy": "FallbackToLogsOnError"}
    await node.apply(pod("words", containers=[main], restartPolicy="Never"))
    await node.until(lambda: node.api("words").get("phase") == "Failed", "the end")
    lines = node.api("words")["containerStatuses"][0]["state"]["terminated"]["message"].splitlines()
    if isinstance(node.home, CriHome):
        lines.sort()  # it keeps no order between the two streams
    assert lines == ["one", "two"]


async def test_a_termination_message(node: PodNode) -> None:
    await node.apply(pod("message", "echo the reason > /dev/termination-log; exit 1", restartPolicy="Never"))
    await node.until(lambda: node.api("message").get("phase") == "Failed", "the end")
    assert node.api("message")["containerStatuses"][0]["state"]["terminated"]["message"] == "the reason\n"


async def test_init_containers_hand_over_a_volume(node: PodNode) -> None:
    mount = [{"name": "v", "mountPath": "/v"}]
    inits = [{"name": "write", "command": ["/bin/sh", "-c", "echo hello > /v/file"], "volumeMounts": mount}]
    main = {"name": "main", "command": ["/bin/sh", "-c", "grep -q hello /v/file"], "volumeMounts": mount}
    await node.apply(pod("handed", containers=[main], initContainers=inits, volumes=[{"name": "v", "emptyDir": {}}], restartPolicy="Never"))
    await node.until(lambda: node.api("handed").get("phase") == "Succeeded", "success")


async def test_a_config_map_that_comes_late(node: PodNode) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]
    await node.apply(pod("waits", containers=[{"name": "main", "command": ["/bin/sleep", "1000"], "env": env}]))
    await node.until(lambda: "CreateContainerConfigError" in str(node.api("waits")), "the error")
    body = b'{"metadata": {"name": "late", "namespace": "default", "uid": "c"}, "data": {"a": "1"}}'
    await node.store_object(ObjectChange("insert", ResourceKey("configmap", "default", "late"), "1", body))
    await node.until(lambda: node.api("waits").get("phase") == "Running", "Running")


async def test_a_failing_exec_probe_restarts(node: PodNode) -> None:
    probe = {"exec": {"command": ["/bin/test", "!", "-e", "/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    main = {"name": "main", "command": ["/bin/sh", "-c", "touch /sick; exec sleep 1000"], "livenessProbe": probe}
    await node.apply(pod("sick", containers=[main], terminationGracePeriodSeconds=0))
    await node.until(lambda: any(each["restartCount"] for each in node.status("sick").get("containerStatuses", ())), "the restart")
    assert "Unhealthy" in node.events.reasons


async def test_an_agent_that_restarts_disturbs_nothing(node: PodNode) -> None:
    for index in range(3):
        await node.apply(pod(f"p{index}"))
    await node.until(lambda: all(node.api(f"p{index}").get("phase") == "Running" for index in range(3)), "three pods")
    before = {each.id for each in await node.running()}
    await node.stop()
    await node.start()
    await node.until(lambda: len(node.service.pods()) == 3, "the pods")
    await node.until(lambda: all(node.status(f"p{index}").get("phase") == "Running" for index in range(3)), "three pods again")
    assert {each.id for each in await node.running()} == before
    assert not [each for each in node.uplink.asked if each.operation == "patch"]


async def test_an_end_without_an_agent_is_not_lost(node: PodNode) -> None:
    script = ["/bin/sh", "-c", "while [ ! -e /go/now ]; do sleep 0.05; done; exit 4"]
    main = {"name": "main", "command": script, "volumeMounts": [{"name": "go", "mountPath": "/go"}]}
    volume = {"name": "go", "hostPath": {"path": str(node.folder / "go"), "type": "DirectoryOrCreate"}}
    await node.apply(pod("ends", containers=[main], restartPolicy="Never", volumes=[volume]))
    await node.until_phase("ends", "Running")
    await node.stop()
    (node.folder / "go/now").touch()
    await node.start()
    await node.until(lambda: node.api("ends").get("phase") == "Failed", "the end")
    assert node.api("ends")["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4


async def test_a_shutdown_in_order_and_the_next_start_offline(node: PodNode) -> None:
    script = "trap 'echo bye > /out/bye; exit 0' TERM; echo up > /out/up; while :; do sleep 0.05; done"
    main = {"name": "main", "command": ["/bin/sh", "-c", script], "volumeMounts": [{"name": "out", "mountPath": "/out"}]}
    volume = {"name": "out", "hostPath": {"path": str(node.folder / "out"), "type": "DirectoryOrCreate"}}
    await node.apply(pod("rests", containers=[main], volumes=[volume]))
    await node.until_phase("rests", "Running")
    await node.until((node.folder / "out/up").exists, "the trap")
    async with asyncio.timeout(60):
        await node.service.rest("uid-rests", grace_seconds=20)
    assert (node.folder / "out/bye").exists(), "it had its time"
    assert not await node.running()
    assert node.status("rests")["phase"] == "Running"
    await node.stop()
    await node.start(online=False)

    def runs_again() -> bool:
        """What was told before the shutdown is no answer."""
        found = node.status("rests").get("containerStatuses", ())
        return any("running" in each["state"] and each["restartCount"] == 1 for each in found)

    await node.until(runs_again, "the container again")


async def test_deleted_while_the_agent_was_down(node: PodNode) -> None:
    await node.apply(pod("web"))
    await node.until_phase("web", "Running")
    await node.stop()
    node.cloud.pods.clear()
    node.cloud.downlink.clear()
    await _forget(node, "web")
    await node.start()

    for _ in range(2000):
        if not await node.runtime.containers() and not await node.runtime.sandboxes():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the orphan is still there")


async def test_ten_pods_come_back_after_a_power_cut_without_a_network(node: PodNode) -> None:
    for index in range(9):
        policy = ("Always", "OnFailure")[index % 2]
        volumes = [{"name": "v", "emptyDir": {"medium": "Memory"}}] if index % 3 == 0 else []
        await node.apply(pod(f"p{index}", restartPolicy=policy, volumes=volumes))
    await node.apply(pod("net", hostNetwork=False))
    names = [*(f"p{index}" for index in range(9)), "net"]
    await node.until(lambda: all(node.api(name).get("phase") == "Running" for name in names), "ten pods")
    if node.runtime.name == "cri-o":  # it forgets all, so the store has to know of the first starts
        await node.until(lambda: all(_is_kept_running(node, name) for name in names), "the records")
    await node.stop()
    node.home.power_cut()
    await node.start(online=False, boot="the next one")
    await node.until(lambda: all(_is_back(node, name) for name in names), "ten pods again")
    assert len(await node.running()) == 10
    assert not node.uplink.asked
    await node.uplink.connect()
    await node.until(lambda: all(node.api(name)["containerStatuses"][0]["restartCount"] == 1 for name in names), "the cloud's knowledge")
    assert len(await node.running()) == 10


def _is_back(node: PodNode, name: str) -> bool:
    status = node.status(name)
    statuses = status.get("containerStatuses") or [{}]
    return status.get("phase") == "Running" and statuses[0].get("ready") is True and statuses[0].get("restartCount") == 1


def _is_kept_running(node: PodNode, name: str) -> bool:
    found = node.store.get(ResourceKey(LOCAL_POD_STATUS, "default", name))
    return found is not None and b'"running"' in found.body


async def _forget(node: PodNode, name: str) -> None:
    async with Store(node.folder / "edge.db") as store:
        await store.apply([ObjectChange("delete", ResourceKey("pod", "default", name), "", b"")])
