"""Deployments, DaemonSets and the scheduler, by kubectl, over nodes that run what is bound to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Kubectl, Server, connected
from .kubelets import Kubelets

pytestmark = pytest.mark.kubectl
PATIENCE = "--timeout=40s"


def template(image: str = "i:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def deployment(name: str = "d", *, replicas: int = 3, image: str = "i:1", strategy: Any = None, **spec: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": template(image), **spec}
    if strategy:
        body["strategy"] = strategy
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


class Fleet:
    """A server of its own with nodes that work, and the kubectl to command it."""

    def __init__(self, client: Any, kubelets: Kubelets, kubectl: Kubectl, eventually: Any) -> None:
        self.client = client
        self.kubelets = kubelets
        self._kubectl = kubectl
        self._eventually = eventually

    async def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        return await asyncio.to_thread(self._kubectl, *arguments, stdin=json.dumps(stdin) if stdin is not None else "")

    async def refused(self, *arguments: str) -> str:
        done = await asyncio.to_thread(self._kubectl.result, *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr + done.stdout

    async def apply(self, body: Any) -> None:
        await self.kubectl("apply", "-f", "-", stdin=body)

    async def pods(self) -> list[Any]:
        listed: list[Any] = (await self.client.get("/api/v1/namespaces/default/pods"))["items"]
        return [each for each in listed if "deletionTimestamp" not in each["metadata"]]

    async def until(self, ask: Any, wanted: Any, *, seconds: float = 30.0) -> Any:
        return await self._eventually(ask, wanted, seconds=seconds)

    async def read(self, plural: str, name: str) -> Any:
        group = "/api/v1" if plural in {"pods", "events"} else "/apis/apps/v1"
        return await self.client.get(f"{group}/namespaces/default/{plural}/{name}")

    async def events(self) -> list[tuple[str, str]]:
        return [(each["reason"], each["message"]) for each in (await self.client.get("/api/v1/namespaces/default/events"))["items"]]


@pytest.fixture
async def fleet(tmp_path: Path, eventually: Any) -> AsyncIterator[Fleet]:
    from .conftest import _finder

    program = _finder().current() or _finder().debian()
    if program is None:
        pytest.skip("kubectl is not here: install it, or name it in PINNACE_KUBECTL")
    server = Server(tmp_path)
    server.start()
    try:
        async with connected(server) as client:
            kubelets = Kubelets(client, "default")
            running = asyncio.create_task(kubelets.run())
            yield Fleet(client, kubelets, Kubectl(program, "any", server, tmp_path / "home"), eventually)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
    finally:
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()[-4000:]


async def test_a_deployments_life(fleet: Fleet) -> None:
    for name in ("n1", "n2", "n3"):
        await fleet.kubelets.add(name)
    await fleet.apply(deployment())
    assert "successfully rolled out" in await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    pods = await fleet.pods()
    assert {each["spec"]["nodeName"] for each in pods} == {"n1", "n2", "n3"}, "spread"
    (first,) = {each["metadata"]["labels"]["pod-template-hash"] for each in pods}
    assert all(each["metadata"]["name"].startswith(f"d-{first}-") for each in pods)
    assert all(each["spec"]["serviceAccountName"] == "default" for each in pods)

    await fleet.kubectl("annotate", "deployment/d", "kubernetes.io/change-cause=second")
    await fleet.kubectl("set", "image", "deployment/d", "c=i:2")
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    await fleet.until(fleet.pods, lambda found: {each["spec"]["containers"][0]["image"] for each in found} == {"i:2"})
    history = await fleet.kubectl("rollout", "history", "deployment/d")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    assert "second" in history

    await fleet.kubectl("rollout", "undo", "deployment/d")
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    pods = await fleet.until(fleet.pods, lambda found: {each["spec"]["containers"][0]["image"] for each in found} == {"i:1"})
    assert {each["metadata"]["labels"]["pod-template-hash"] for each in pods} == {first}, "the first ReplicaSet again"
    history = await fleet.kubectl("rollout", "history", "deployment/d")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["2", "3"]

    await fleet.kubectl("scale", "deployment/d", "--replicas=5")
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    assert len(await fleet.pods()) == 5
    await fleet.kubectl("scale", "deployment/d", "--replicas=1")
    await fleet.until(fleet.pods, lambda found: len(found) == 1)
    shown = await fleet.until(lambda: fleet.read("deployments", "d"), lambda found: found["status"].get("replicas") == 1)
    assert shown["status"]["observedGeneration"] == shown["metadata"]["generation"]
    assert {each["type"]: each["reason"] for each in shown["status"]["conditions"]} == {
        "Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable",
    }  # fmt: skip
    reasons = {reason for reason, _ in await fleet.events()}
    assert {"ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete", "Scheduled"} <= reasons
    await fleet.kubectl("delete", "deployment", "d")
    await fleet.until(fleet.pods, lambda found: not found)


async def test_a_bad_image_stops_the_rollout_with_the_old_pods_serving(fleet: Fleet) -> None:
    await fleet.kubelets.add("n1")
    fleet.kubelets.holds.add("bad")
    await fleet.apply(deployment(replicas=4, progressDeadlineSeconds=2))
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    await fleet.kubectl("set", "image", "deployment/d", "c=bad:2")
    assert "exceeded its progress deadline" in await fleet.refused("rollout", "status", "deployment/d", PATIENCE)
    images = [each["spec"]["containers"][0]["image"] for each in await fleet.pods()]
    assert sorted(images) == ["bad:2", "bad:2", "i:1", "i:1", "i:1"], "a quarter more, a quarter less"
    await fleet.kubectl("rollout", "undo", "deployment/d")
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)


async def test_a_rollout_ends_after_somebody_edited_the_replica_set(fleet: Fleet) -> None:
    await fleet.kubelets.add("n1")
    await fleet.apply(deployment(replicas=2))
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    edited = (await fleet.kubectl("get", "rs", "-o", "name")).strip()
    await fleet.kubectl("set", "image", edited, "c=i:edited")
    await fleet.kubectl("scale", "deployment/d", "--replicas=3")
    assert "successfully rolled out" in await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    assert [each["spec"]["containers"][0]["image"] for each in await fleet.pods()] == ["i:1"] * 3
    owners = {each["metadata"]["ownerReferences"][0]["name"] for each in await fleet.pods()}
    assert len(owners) == 1
    assert owners != {edited.rpartition("/")[2]}


@pytest.mark.parametrize("history", [10, 0])
async def test_recreate_pause_and_resume(fleet: Fleet, history: int) -> None:
    await fleet.kubelets.add("n1")
    await fleet.apply(deployment(replicas=2, strategy={"type": "Recreate"}, revisionHistoryLimit=history))
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    await fleet.kubectl("rollout", "pause", "deployment/d")
    await fleet.kubectl("set", "image", "deployment/d", "c=i:2")
    await fleet.kubectl("scale", "deployment/d", "--replicas=3")
    await fleet.until(fleet.pods, lambda found: len(found) == 3)
    assert {each["spec"]["containers"][0]["image"] for each in await fleet.pods()} == {"i:1"}
    fleet.kubelets.silent.add("n1")
    await fleet.kubectl("rollout", "resume", "deployment/d")
    await fleet.until(fleet.pods, lambda found: not found)
    shown = await fleet.read("deployments", "d")
    assert shown["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    left = (await fleet.client.get("/api/v1/namespaces/default/pods"))["items"]
    assert [each["spec"]["containers"][0]["image"] for each in left] == ["i:1"] * 3, "nothing new while the old ones end"
    fleet.kubelets.silent.clear()
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    assert {each["spec"]["containers"][0]["image"] for each in await fleet.pods()} == {"i:2"}
    path = "/apis/apps/v1/namespaces/default/replicasets"
    await fleet.until(lambda: fleet.client.get(path), lambda found: len(found["items"]) == (2 if history else 1))


async def test_pods_are_adopted_released_and_made_again(fleet: Fleet) -> None:
    await fleet.kubelets.add("n1")
    await fleet.client.create("/api/v1/namespaces/default/pods", {**template(), "metadata": {"name": "own", "labels": {"app": "a"}}})
    replica_set = {**deployment("r", replicas=2), "kind": "ReplicaSet"}
    await fleet.apply(replica_set)
    pods = await fleet.until(fleet.pods, lambda found: len(found) == 2)
    assert {each["metadata"]["ownerReferences"][0]["name"] for each in pods} == {"r"}
    assert "own" in {each["metadata"]["name"] for each in pods}
    await fleet.kubectl("label", "pod", "own", "app=b", "--overwrite")
    pods = await fleet.until(fleet.pods, lambda found: len(found) == 3)
    assert [each["metadata"].get("ownerReferences") for each in pods if each["metadata"]["name"] == "own"] == [None]
    await fleet.kubectl("delete", "rs", "r", "--cascade=orphan")
    await fleet.until(fleet.pods, lambda found: not any(each["metadata"].get("ownerReferences") for each in found))
    assert len(await fleet.pods()) == 3


async def test_a_daemon_set(fleet: Fleet) -> None:
    for name in ("n1", "n2"):
        await fleet.kubelets.add(name, role="edge")
    await fleet.kubelets.add("other")
    body = {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ds"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template(nodeSelector={"role": "edge"})},
    }  # fmt: skip
    await fleet.apply(body)
    assert "successfully rolled out" in await fleet.kubectl("rollout", "status", "ds/ds", PATIENCE)
    assert sorted(each["spec"]["nodeName"] for each in await fleet.pods()) == ["n1", "n2"]
    await fleet.kubectl("cordon", "n2")
    await fleet.kubelets.add("n3", role="edge")
    await fleet.until(fleet.pods, lambda found: sorted(each["spec"].get("nodeName", "") for each in found) == ["n1", "n2", "n3"])
    await fleet.kubectl("set", "image", "ds/ds", "c=i:2")
    await fleet.kubectl("rollout", "status", "ds/ds", PATIENCE)
    assert {each["spec"]["containers"][0]["image"] for each in await fleet.pods()} == {"i:2"}
    history = await fleet.kubectl("rollout", "history", "ds/ds")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    await fleet.kubectl("rollout", "undo", "ds/ds")
    await fleet.until(fleet.pods, lambda found: {each["spec"]["containers"][0]["image"] for each in found} == {"i:1"})
    await fleet.kubectl("rollout", "status", "ds/ds", PATIENCE)
    await fleet.kubectl("label", "node", "n1", "role-")
    await fleet.until(fleet.pods, lambda found: sorted(each["spec"]["nodeName"] for each in found) == ["n2", "n3"])
    shown = await fleet.until(lambda: fleet.read("daemonsets", "ds"), lambda found: found["status"]["desiredNumberScheduled"] == 2)
    assert shown["status"]["numberAvailable"] == 2
    await fleet.kubectl("patch", "ds", "ds", "-p", json.dumps({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}))
    await fleet.kubectl("set", "image", "ds/ds", "c=i:3")
    await fleet.until(
        lambda: fleet.read("daemonsets", "ds"), lambda found: found["status"]["observedGeneration"] == found["metadata"]["generation"]
    )
    assert {each["spec"]["containers"][0]["image"] for each in await fleet.pods()} == {"i:1"}
    await fleet.kubectl("delete", "pod", (await fleet.pods())[0]["metadata"]["name"])
    await fleet.until(fleet.pods, lambda found: sorted(each["spec"]["containers"][0]["image"] for each in found) == ["i:1", "i:3"])


async def test_why_a_pod_is_not_scheduled(fleet: Fleet) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeSelector": {"hostname": "pi"}, **template()["spec"]}}
    await fleet.apply(pod)

    async def message() -> str:
        conditions = (await fleet.read("pods", "p"))["status"].get("conditions") or []
        return next((each["message"] for each in conditions if each.get("reason") == "Unschedulable"), "")

    await fleet.until(message, lambda found: found == "no nodes available to schedule pods")
    await fleet.kubelets.add("n1")
    await fleet.until(message, lambda found: found == "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    await fleet.kubectl("taint", "node", "n1", "k=v:NoSchedule")
    await fleet.until(message, lambda found: found == "0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.")
    assert "FailedScheduling" in await fleet.kubectl("describe", "pod", "p")
    await fleet.kubectl("taint", "node", "n1", "k-")
    await fleet.kubectl("label", "node", "n1", "hostname=pi")
    shown = await fleet.until(lambda: fleet.read("pods", "p"), lambda found: found["spec"].get("nodeName") == "n1")
    assert [each["status"] for each in shown["status"]["conditions"] if each["type"] == "PodScheduled"] == ["True"]
    reasons = [reason for reason, _ in await fleet.events()]
    assert reasons.count("FailedScheduling") == 3


async def test_readiness_moves_the_endpoints_of_a_service(fleet: Fleet) -> None:
    await fleet.kubelets.add("n1")
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    await fleet.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "ports": ports}}
    )
    body = deployment(replicas=2, image="slow:1")
    body["spec"]["template"]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
    fleet.kubelets.holds.add("slow")
    await fleet.apply(body)

    async def shown() -> list[tuple[bool, int]]:
        listed = await fleet.client.get(
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name%3Ds"
        )
        return [(each["conditions"]["ready"], part["ports"][0]["port"]) for part in listed["items"] for each in part["endpoints"]]

    await fleet.until(shown, lambda found: found == [(False, 8080)] * 2)
    fleet.kubelets.holds.clear()
    await fleet.until(shown, lambda found: found == [(True, 8080)] * 2)
    assert "10.1.0.1:8080" in await fleet.kubectl("get", "endpoints", "s")
    await fleet.kubectl("scale", "deployment/d", "--replicas=0")
    await fleet.until(shown, lambda found: not found)
    await fleet.kubectl("delete", "service", "s")
    await fleet.until(lambda: fleet.client.ask("GET", "/api/v1/namespaces/default/endpoints/s"), lambda found: found[0] == 404)


async def test_a_drained_node_gets_nothing_new(fleet: Fleet) -> None:
    for name in ("n1", "n2"):
        await fleet.kubelets.add(name)
    await fleet.apply(deployment(replicas=4))
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    await fleet.kubectl("drain", "n1", "--force", "--ignore-daemonsets", PATIENCE)
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    assert [each["spec"]["nodeName"] for each in await fleet.pods()] == ["n2"] * 4


async def test_pods_leave_a_node_whose_taints_they_do_not_tolerate(fleet: Fleet) -> None:
    for name in ("n1", "n2"):
        await fleet.kubelets.add(name)
    await fleet.apply(deployment(replicas=2))
    await fleet.kubectl("rollout", "status", "deployment/d", PATIENCE)
    await fleet.kubectl("taint", "node", "n1", "fire=yes:NoExecute")
    await fleet.until(fleet.pods, lambda found: [each["spec"].get("nodeName") for each in found] == ["n2", "n2"])
    assert "TaintManagerEviction" in {reason for reason, _ in await fleet.events()}


async def test_the_traffic_light_of_the_user(fleet: Fleet) -> None:
    import yaml

    node = "192.168.4.22-pi2"
    text = (Path(__file__).resolve().parents[3] / "build" / "samples" / "traffic-light" / "deployment.yaml").read_text()
    body = yaml.safe_load(text)
    await fleet.kubelets.add("other")
    await fleet.kubelets.add(node, hostname=node)
    await fleet.apply(body)
    await fleet.kubectl("rollout", "status", f"deployment/{body['metadata']['name']}", PATIENCE)
    (pod,) = await fleet.pods()
    assert pod["spec"]["nodeName"] == node
