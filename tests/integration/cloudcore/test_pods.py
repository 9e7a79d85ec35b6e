"""Pods on the wire: down whole to their own node, status and the end of a deletion up, and nothing of them to another node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pinnace.cloud.kube.resources import CONFIG_MAPS, NAMESPACES, NODES, OBJECT_SYNCS, PODS, SERVICE_ACCOUNTS, VOLUME_CLAIMS, VOLUMES

EDGE = "edge-1"


def pod(name: str = "p", node: str = EDGE, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "a"}},
        "spec": {"nodeName": node, "containers": [{"name": "one", "image": "i"}], **spec},
    }


async def found(world: Any, name: str = "p") -> Any:
    return await world.api.get(PODS, name, "default")


async def names(world: Any) -> set[str]:
    return {each["metadata"]["name"] for each in (await world.api.list(PODS, "default"))[0]}


def running(uid: str, ready: str = "True") -> str:
    status = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": ready}]}
    return json.dumps({"metadata": {"uid": uid, "labels": {"stolen": "1"}}, "spec": {"nodeName": "x"}, "status": status})


async def test_a_pods_life_on_the_wire(world: Any) -> None:
    async with world.connected("other") as other, world.connected(EDGE) as node:
        await world.api.create(CONFIG_MAPS, {"metadata": {"name": "c"}, "data": {"a": "1"}}, "default")
        made = await world.api.create(PODS, pod(volumes=[{"name": "v", "configMap": {"name": "c"}}]), "default")
        uid = made["metadata"]["uid"]
        push = await node.pushed("insert", "default/pod/p")
        assert push["content"] == made | {"kind": "Pod", "apiVersion": "v1"}
        assert push["header"]["resourceversion"] == made["metadata"]["resourceVersion"]
        order = [each["route"]["resource"] for each in node.received if each["route"]["operation"] == "insert"]
        assert order.index("default/configmap/c") < order.index("default/pod/p"), "what it uses comes first"

        start = len(node.received)
        answer = await node.ask("patch", "default/podpatch/p", running(uid))
        assert answer["content"]["Err"] is None
        assert answer["content"]["Object"]["status"]["podIP"] == "10.0.0.7"
        stored = await found(world)
        assert stored["metadata"]["labels"] == {"app": "a"}
        assert stored["spec"] == made["spec"]
        assert answer["header"]["resourceversion"] == stored["metadata"]["resourceVersion"]

        await world.api.patch(PODS, "p", {"metadata": {"labels": {"app": "b"}}}, "default")
        push = await node.pushed("update", "default/pod/p", after=start)
        assert push["content"]["metadata"]["labels"] == {"app": "b"}, "its own report did not come back"

        start = len(node.received)
        await world.api.delete(PODS, "p", "default")
        push = await node.pushed("update", "default/pod/p", after=start)
        assert push["content"]["metadata"]["deletionGracePeriodSeconds"] == 30
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        assert (await node.ask("delete", "default/pod/p", options))["content"] == "OK"
        push = await node.pushed("delete", "default/pod/p", after=start)
        assert push["content"]["metadata"]["uid"] == uid
        assert push["content"]["spec"]["containers"], "the whole pod"
        await world.until(lambda: world.api.list(OBJECT_SYNCS), lambda answer: uid not in str(answer[0]))
        assert await names(world) == set()
        assert not [each for each in other.received if "/pod/" in each["route"]["resource"]]


async def test_a_forced_deletion_and_one_of_the_same_name(world: Any) -> None:
    async with world.connected(EDGE) as node:
        first = await world.api.create(PODS, pod(), "default")
        await node.pushed("insert", "default/pod/p")
        await world.api.delete(PODS, "p", "default", body={"gracePeriodSeconds": 0})
        second = await world.api.create(PODS, pod(), "default")
        gone = await node.pushed("delete", "default/pod/p")
        assert gone["content"]["metadata"]["uid"] == first["metadata"]["uid"]
        again = await node.saw(
            lambda each: str(each["content"]).count(second["metadata"]["uid"]) and each["route"]["operation"] == "insert"
        )
        assert node.received.index(gone) < node.received.index(again)
        late = {"gracePeriodSeconds": 0, "preconditions": {"uid": first["metadata"]["uid"]}}
        assert (await node.ask("delete", "default/pod/p", late))["content"] == "OK", "as upstream answers"
        assert (await found(world))["metadata"]["uid"] == second["metadata"]["uid"]
        answer = await node.ask("patch", "default/podpatch/p", running(first["metadata"]["uid"]))
        assert answer["content"]["Err"]["ErrStatus"]["code"] == 422
        assert "field is immutable" in answer["content"]["Err"]["ErrStatus"]["message"]


async def test_a_deletion_while_away_is_made_good(world: Any) -> None:
    async with world.connected(EDGE) as node:
        made = await world.api.create(PODS, pod(), "default")
        await node.pushed("insert", "default/pod/p")
        version = made["metadata"]["resourceVersion"]
        await world.until(lambda: world.api.list(OBJECT_SYNCS), lambda answer: f"'objectResourceVersion': '{version}'" in str(answer[0]))
    await world.api.delete(PODS, "p", "default", body={"gracePeriodSeconds": 0})
    node = await world.node(EDGE)
    async with node.connected(world.cloud.websocket_port):
        gone = await node.pushed("delete", "default/pod/p")
        assert gone["content"] == {"metadata": {"name": "p", "namespace": "default", "uid": made["metadata"]["uid"]}}
        await world.api.create(PODS, pod("q"), "default")
        await node.pushed("insert", "default/pod/q")
        assert {each["route"]["resource"] for each in node.received if "/pod/" in each["route"]["resource"]} == {
            "default/pod/p", "default/pod/q",
        }  # fmt: skip


async def test_a_namespace_that_ends_takes_its_pods_with_it(world: Any) -> None:
    async with world.connected(EDGE) as node:
        await world.api.create(NAMESPACES, {"metadata": {"name": "crew"}})
        made = await world.api.create(PODS, {**pod(), "metadata": {"name": "p", "namespace": "crew"}}, "crew")
        await node.pushed("insert", "crew/pod/p")
        await world.api.delete(NAMESPACES, "crew")
        ending = await node.saw(lambda each: each["route"]["resource"] == "crew/pod/p" and "deletionTimestamp" in str(each["content"]))
        assert ending["route"]["operation"] == "update"
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}}
        assert (await node.ask("delete", "crew/pod/p", options))["content"] == "OK"
        await node.pushed("delete", "crew/pod/p")
        await world.until(lambda: world.api.list(NAMESPACES), lambda answer: "'crew'" not in str(answer[0]))
        await world.api.create(PODS, pod("after"), "default")
        await node.pushed("insert", "default/pod/after")


async def test_a_readiness_that_somebody_else_changed_comes_back_down(world: Any) -> None:
    async with world.connected(EDGE) as node:
        made = await world.api.create(PODS, pod(), "default")
        await node.pushed("insert", "default/pod/p")
        await node.ask("patch", "default/podpatch/p", running(made["metadata"]["uid"]))
    await world.api.patch(
        PODS, "p", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "default",
        content_type="application/strategic-merge-patch+json", subresource="status",
    )  # fmt: skip
    node = await world.node(EDGE)
    async with node.connected(world.cloud.websocket_port):
        push = await node.pushed("update", "default/pod/p")
        assert [each["status"] for each in push["content"]["status"]["conditions"] if each["type"] == "Ready"] == ["False"]


async def test_another_nodes_pod_is_refused(world: Any) -> None:
    async with world.connected("other") as other, world.connected(EDGE) as node:
        made = await world.api.create(PODS, pod(), "default")
        await node.pushed("insert", "default/pod/p")
        answer = await other.ask("patch", "default/podpatch/p", running(made["metadata"]["uid"]))
        assert answer["content"]["Err"]["ErrStatus"]["reason"] == "Forbidden"
        for operation, body in (("query", None), ("delete", {"gracePeriodSeconds": 0})):
            answer = await other.ask(operation, "default/pod/p", body)
            assert answer["route"]["operation"] == "error"
        answer = await other.ask("update", "default/podstatus/p", {"UID": made["metadata"]["uid"], "Name": "p", "Status": {}})
        assert answer["route"]["operation"] == "error"
        assert await found(world) == made


async def test_tokens_are_for_the_nodes_own_pods(world: Any) -> None:
    async with world.connected("other") as other, world.connected(EDGE) as node:
        await world.api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "robot"}}, "default")
        made = await world.api.create(PODS, pod(serviceAccountName="robot"), "default")
        await node.pushed("insert", "default/pod/p")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
        request: dict[str, Any] = {
            "metadata": {"creationTimestamp": None},
            "spec": {"audiences": None, "expirationSeconds": 3607, "boundObjectRef": bound},
        }
        for body in (request, json.dumps(request)):
            answer = await node.ask("query", "default/serviceaccounttoken/robot", body)
            assert answer["content"]["kind"] == "TokenRequest"
            assert answer["content"]["apiVersion"] == "authentication.k8s.io/v1"
            assert answer["content"]["status"]["token"].count(".") == 2
        refused: tuple[tuple[Any, str, Any], ...] = (
            (node, "default", request),
            (other, "robot", request),
            (node, "robot", None),
            (node, "robot", {"spec": {}}),
            (node, "robot", {"spec": {"boundObjectRef": {**bound, "uid": "another"}}}),
            (node, "robot", {"spec": {"boundObjectRef": {"kind": "Secret", "name": "p", "uid": made["metadata"]["uid"]}}}),
        )
        for who, account, body in refused:
            answer = await who.ask("query", f"default/serviceaccounttoken/{account}", body)
            assert answer["route"]["operation"] == "error"
            assert "bound" in answer["content"]


async def test_mirror_pods(world: Any) -> None:
    async with world.connected(EDGE) as node:
        uid = (await world.api.get(NODES, EDGE))["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "Node", "name": EDGE, "uid": uid, "controller": True}
        mirror = pod(f"s-{EDGE}")
        mirror["metadata"] |= {
            "uid": "0123456789abcdef", "annotations": {"kubernetes.io/config.mirror": "1", "kubernetes.io/config.source": "file"},
            "ownerReferences": [owner],
        }  # fmt: skip
        address = f"default/pod/s-{EDGE}"
        answer = await node.ask("insert", address, mirror)
        assert answer["content"]["Err"] is None
        assert answer["content"]["Object"]["spec"]["nodeName"] == EDGE
        assert (await node.ask("insert", address, mirror))["content"]["Err"]["ErrStatus"]["reason"] == "AlreadyExists"
        made = await found(world, f"s-{EDGE}")
        await world.until(lambda: names(world), lambda answer: answer == {f"s-{EDGE}"})
        await node.pushed("insert", address)  # it is known as the node's own: a token for it would be one of the node's choosing
        bound = {"kind": "Pod", "apiVersion": "v1", "name": f"s-{EDGE}", "uid": made["metadata"]["uid"]}
        answer = await node.ask("query", "default/serviceaccounttoken/default", {"spec": {"boundObjectRef": bound}})
        assert answer["route"]["operation"] == "error"
        spoiled: list[dict[str, Any]] = [
            {**mirror, "metadata": {**mirror["metadata"], "annotations": {}}},
            {**mirror, "spec": {**mirror["spec"], "nodeName": "other"}},
            {**mirror, "spec": {**mirror["spec"], "serviceAccountName": "robot"}},
            {**mirror, "spec": {**mirror["spec"], "serviceAccount": "robot"}},
            {**mirror, "spec": {**mirror["spec"], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
            {**mirror, "metadata": {**mirror["metadata"], "ownerReferences": [{**owner, "uid": "x"}]}},
            {**mirror, "metadata": {**mirror["metadata"], "name": "else"}},
        ]
        for each in spoiled:
            answer = await node.ask("insert", address, each)
            assert answer["content"]["Err"]["ErrStatus"]["reason"] == "Forbidden"
        assert await names(world) == {f"s-{EDGE}"}


async def test_old_edges_report_in_their_own_form(world: Any) -> None:
    async with world.connected(EDGE) as node:
        made = await world.api.create(PODS, pod(), "default")
        uid = made["metadata"]["uid"]
        await node.pushed("insert", "default/pod/p")
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status: dict[str, Any] = {
            "phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [ready],
            "containerStatuses": [{"name": "one", "image": "i", "imageID": "", "ready": True, "restartCount": 0, "state": {"running": {}}}],
        }  # fmt: skip
        assert (await node.ask("update", "default/podstatus/p", {"UID": uid, "Name": "p", "Status": status}))["content"] == "OK"
        later = {**status, "startTime": "2026-01-02T00:00:00Z", "conditions": [{**ready, "lastTransitionTime": "2026-01-02T00:00:00Z"}]}
        assert (await node.ask("update", "default/podstatus", [{"UID": uid, "Name": "p", "Status": later}]))["content"] == "OK"
        shown = (await found(world))["status"]
        assert (shown["phase"], shown["startTime"], shown["conditions"][0]["lastTransitionTime"]) == (
            "Running", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z",
        )  # fmt: skip
        answer = await node.ask("update", "default/podstatus/gone", {"UID": "u", "Name": "gone", "Status": status})
        assert answer["content"] == "OK"
        assert (await node.pushed("delete", "default/pod/gone"))["content"]["metadata"]["name"] == "gone"
        await world.api.delete(PODS, "p", "default")
        ended = {
            **status,
            "containerStatuses": [{**status["containerStatuses"][0], "ready": False, "state": {"terminated": {"exitCode": 0}}}],
        }
        assert (await node.ask("update", "default/podstatus/p", {"UID": uid, "Name": "p", "Status": ended}))["content"] == "OK"
        await world.until(lambda: names(world), lambda answer: not answer)


async def test_claims_and_volumes_come_before_the_pod(world: Any) -> None:
    async with world.connected("other") as other, world.connected(EDGE) as node:
        size: dict[str, Any] = {"storage": "1Gi"}
        claim = {"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "volumeName": "v"}}
        reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": "c"}
        volume = {
            "metadata": {"name": "v"},
            "spec": {"capacity": size, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"}, "claimRef": reference},
        }
        await world.api.create(VOLUMES, volume)
        await world.api.create(VOLUMES, {**volume, "metadata": {"name": "unused"}})
        await world.api.create(VOLUME_CLAIMS, claim, "default")
        await world.api.create(PODS, pod(volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]), "default")
        await node.pushed("insert", "default/pod/p")
        order = [each["route"]["resource"] for each in node.received if each["route"]["operation"] == "insert"]
        assert order[-3:] == ["default/persistentvolumeclaim/c", "null/persistentvolume/v", "default/pod/p"]
        start = len(node.received)
        await world.api.patch(VOLUMES, "v", {"metadata": {"labels": {"a": "b"}}})
        await node.pushed("update", "null/persistentvolume/v", after=start)
        for resource, kind in (
            ("default/persistentvolumeclaim/c", "PersistentVolumeClaim"),
            ("null/persistentvolume/v", "PersistentVolume"),
        ):
            assert (await node.ask("query", resource))["content"]["kind"] == kind
            assert (await other.ask("query", resource))["route"]["operation"] == "error"
        assert (await node.ask("query", "null/persistentvolume/unused"))["route"]["operation"] == "error"


@pytest.mark.parametrize("body", ["{", "[]", {"status": []}, {"metadata": 3, "status": {}}])
async def test_a_malformed_status_is_answered(world: Any, body: Any) -> None:
    async with world.connected(EDGE) as node:
        await world.api.create(PODS, pod(), "default")
        answer = await node.ask("patch", "default/podpatch/p", body)
        assert answer["content"]["Err"]["ErrStatus"]["code"] == 400
        assert (await node.ask("patch", "default/podpatch/none", "{}"))["content"]["Err"]["ErrStatus"]["reason"] == "NotFound"


async def test_a_node_that_becomes_an_edge_node_gets_the_pods_it_already_has(world: Any) -> None:
    await world.api.create(NODES, {"metadata": {"name": EDGE}, "spec": {}})
    await world.api.create(PODS, pod(), "default")
    node = await world.node(EDGE)
    async with node.connected(world.cloud.websocket_port):
        await asyncio.wait_for(node.pushed("update", f"null/node/{EDGE}"), 20)
        await world.api.patch(NODES, EDGE, {"metadata": {"labels": {"node-role.kubernetes.io/edge": ""}}})
        push = await node.pushed("insert", "default/pod/p")
        assert push["content"]["spec"]["containers"]
