"""Registration, heartbeat and status as an upstream edge asks for them, answered in upstream's shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pinnace.cloud.kube.resources import CLUSTER_OBJECT_SYNCS, EVENTS, LEASES, NODES

EDGE = "edge-1"


def content(message: Any) -> Any:
    return message["content"]


async def test_a_node_registers_and_hears_of_itself(world: Any) -> None:
    async with world.connected(EDGE) as node:
        live = await world.api.get(NODES, EDGE)
        assert live["metadata"]["labels"]["node-role.kubernetes.io/edge"] == ""
        assert live["metadata"]["annotations"]["cloudcore"] == "127.0.0.1"
        answer = next(each for each in node.received if each["header"].get("parent_msg_id"))
        assert answer["route"] == {
            "source": "edgecontroller",
            "group": "resource",
            "operation": "response",
            "resource": f"null/node/{EDGE}",
        }
        assert content(answer)["Err"] is None
        assert content(answer)["Object"]["metadata"]["uid"] == live["metadata"]["uid"]
        push = await node.pushed("update", f"null/node/{EDGE}")
        assert content(push)["kind"] == "Node"
        assert push["header"]["resourceversion"]
        name = f"{EDGE}.{live['metadata']['uid']}"
        stored = await world.until(
            lambda: world.api.list(CLUSTER_OBJECT_SYNCS),
            lambda answer: any((each.get("status") or {}).get("objectResourceVersion", "0") != "0" for each in answer[0]),
        )
        assert [each["metadata"]["name"] for each in stored[0]] == [name]


async def test_a_known_node_is_told_so_and_sent_down(world: Any) -> None:
    async with world.connected(EDGE):
        pass
    async with world.connected(EDGE) as node:
        answer = await node.ask("insert", f"null/node/{EDGE}", {"metadata": {"name": EDGE}, "spec": {}, "status": {}})
        assert content(answer)["Err"]["ErrStatus"]["reason"] == "AlreadyExists"
        assert content(answer)["Object"]["metadata"] == {"creationTimestamp": None}
        await node.pushed("update", f"null/node/{EDGE}")


async def test_status_patch_as_text(world: Any) -> None:
    async with world.connected(EDGE) as node:
        patch = {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}], "capacity": {"cpu": "4"}}}
        answer = await node.ask("patch", f"null/nodepatch/{EDGE}", json.dumps(patch))
        assert content(answer)["Err"] is None
        assert answer["header"]["resourceversion"] == content(answer)["Object"]["metadata"]["resourceVersion"]
        live = await world.api.get(NODES, EDGE)
        assert live["status"]["capacity"] == {"cpu": "4"}
        again = {"status": {"conditions": [{"type": "DiskPressure", "status": "False"}]}}
        await node.ask("patch", f"null/nodepatch/{EDGE}", json.dumps(again))
        live = await world.api.get(NODES, EDGE)
        assert {each["type"] for each in live["status"]["conditions"]} == {"Ready", "DiskPressure"}


async def test_a_patch_that_is_none_is_refused_and_the_session_lives(world: Any) -> None:
    async with world.connected(EDGE) as node:
        answer = await node.ask("patch", f"null/nodepatch/{EDGE}", "no json")
        assert content(answer)["Err"]["ErrStatus"]["code"] == 400
        answer = await node.ask("insert", f"null/node/{EDGE}", ["no node"])
        assert content(answer)["Err"]["ErrStatus"]["reason"] == "BadRequest"
        assert content(await node.ask("query", f"null/node/{EDGE}"))["metadata"]["name"] == EDGE


async def test_lease_is_asked_for_made_and_renewed(world: Any) -> None:
    resource = f"kube-node-lease/lease/{EDGE}"
    async with world.connected(EDGE) as node:
        missing = content(await node.ask("query", resource))
        assert missing == {
            "Object": None,
            "Err": {
                "ErrStatus": {
                    "metadata": {}, "status": "Failure", "message": f'lease.coordination.k8s.io "{EDGE}" not found', "reason": "NotFound",
                    "details": {"name": EDGE, "group": "coordination.k8s.io", "kind": "lease"}, "code": 404,
                }
            },
        }  # fmt: skip
        body = {
            "metadata": {"name": EDGE, "namespace": "kube-node-lease", "creationTimestamp": None},
            "spec": {"holderIdentity": EDGE, "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"},
        }
        made = content(await node.ask("insert", resource, body))["Object"]
        assert "kind" not in made
        made["spec"]["renewTime"] = "2026-01-01T00:00:10.000000Z"
        renewed = content(await node.ask("update", resource, made))["Object"]
        assert renewed["spec"]["renewTime"] == "2026-01-01T00:00:10.000000Z"
        stale = content(await node.ask("update", resource, made))
        assert stale["Err"]["ErrStatus"]["reason"] == "Conflict"
        assert stale["Err"]["ErrStatus"]["code"] == 409
        asked = content(await node.ask("query", resource))["Object"]
        assert asked["kind"] == "Lease"
        assert (await world.api.get(LEASES, EDGE, "kube-node-lease"))["spec"] == renewed["spec"]


async def test_events_arrive_and_are_not_answered(world: Any) -> None:
    async with world.connected(EDGE) as node:
        event = {
            "metadata": {"name": "edge-1.1", "namespace": "default", "creationTimestamp": None},
            "involvedObject": {"kind": "Node", "name": EDGE, "uid": EDGE}, "reason": "Starting", "message": "Starting kubelet.",
            "source": {"component": "kubelet", "host": EDGE}, "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1, "type": "Normal",
        }  # fmt: skip
        number = await node.send("insert", "default/event/edge-1.1", event)
        found = await world.until(lambda: world.api.list(EVENTS, "default"), lambda answer: answer[0])
        assert found[0][0]["reason"] == "Starting"
        patch = {"event": event | {"count": 2}, "patchData": json.dumps({"count": 2})}
        await node.send("patch", "default/event/edge-1.1", patch)
        await world.until(lambda: world.api.get(EVENTS, "edge-1.1", "default"), lambda each: each["count"] == 2)
        await node.ask("query", f"null/node/{EDGE}")
        assert not [each for each in node.received if each["header"].get("parent_msg_id") == number]


async def test_a_node_reaches_only_its_own_objects(world: Any) -> None:
    async with world.connected("other"), world.connected(EDGE) as node:
        before = await world.api.get(NODES, "other")
        for operation, resource, body in (
            ("insert", "null/node/third", {"metadata": {"name": "third"}}),
            ("patch", "null/nodepatch/other", json.dumps({"status": {"capacity": {"cpu": "9"}}})),
            ("insert", "kube-node-lease/lease/other", {"metadata": {"name": "other"}, "spec": {}}),
            ("query", "kube-node-lease/lease/other", None),
        ):
            answer = await node.ask(operation, resource, body)
            assert content(answer)["Err"]["ErrStatus"]["reason"] == "Forbidden", resource
        for operation, resource in (
            ("query", "null/node/other"),
            ("query", "default/secret/any"),
            ("query", "kubeedge/secret/tokensecret"),
        ):
            answer = await node.ask(operation, resource)
            assert answer["route"]["operation"] == "error"
            assert "a node reaches only its own objects" in content(answer)
        assert await world.api.get(NODES, "other") == before
        assert [each["metadata"]["name"] for each in (await world.api.list(NODES))[0]] == [EDGE, "other"]


async def test_what_is_not_served_is_answered(world: Any) -> None:
    async with world.connected(EDGE) as node:
        answer = await node.ask("query", "default/certificatesigningrequest/one")
        assert answer["route"]["operation"] == "error"
        answer = await node.ask("patch", "default/service/one", "{}")
        assert "does not serve patch of service" in content(answer)
        authority = await node.ask("query", "k8s/ca.crt", source="metamanager")
        assert content(authority).startswith("-----BEGIN CERTIFICATE-----")
        assert authority["route"]["source"] == "cloudhub"


async def test_a_deleted_node_is_disconnected_and_forgotten(world: Any) -> None:
    async with world.connected(EDGE) as node:
        await node.pushed("update", f"null/node/{EDGE}")
        await world.api.delete(NODES, EDGE)
        await world.until(lambda: world.api.list(CLUSTER_OBJECT_SYNCS), lambda answer: not answer[0])


async def test_a_node_cannot_give_itself_restricted_labels(world: Any) -> None:
    restricted = {"node-restriction.kubernetes.io/trusted": "1", "a.node-restriction.kubernetes.io/x": "1"}
    async with world.connected(EDGE, labels=restricted | {"zone": "a"}) as node:
        patch = json.dumps({"metadata": {"labels": restricted | {"via": "patch"}}})
        for text in (patch, patch.replace("node-restriction", "\\u006eode-restriction")):
            assert content(await node.ask("patch", f"null/nodepatch/{EDGE}", text))["Err"] is None
        await node.ask("update", f"null/node/{EDGE}", {"metadata": {"labels": restricted | {"updated": "1"}}})
        labels = (await world.api.get(NODES, EDGE))["metadata"]["labels"]
        assert {"zone", "via", "updated"} <= labels.keys()
        assert not [key for key in labels if "node-restriction" in key]


@pytest.mark.parametrize(
    ("operation", "kind", "content"),
    [
        ("patch", "nodepatch", '{"metadata":{"labels":null}}'),
        ("patch", "nodepatch", '{"metadata":{"labels":{"node-restriction.kubernetes.io/zone":null}}}'),
        ("patch", "nodepatch", '{"metadata":{"labels":{"$patch":"replace","a":"b"}}}'),
        ("patch", "nodepatch", '{"metadata":{"labels":{"\\u0024patch":"replace"}}}'),
        ("patch", "nodepatch", '{"metadata":{"$patch":"replace","name":"edge"}}'),
        ("patch", "nodepatch", '{"$patch":"replace","metadata":{"name":"edge"}}'),
        ("patch", "nodepatch", '{"$retainKeys":["status"],"status":{}}'),
        ("update", "node", {"metadata": {"labels": {"$patch": "replace", "a": "b"}}}),
        ("update", "node", {"metadata": {"labels": {"node-restriction.kubernetes.io/zone": None}}}),
    ],
)
async def test_a_node_cannot_take_restricted_labels_off_itself(world: Any, operation: str, kind: str, content: Any) -> None:
    async with world.connected(EDGE) as node:
        await world.api.patch(NODES, EDGE, {"metadata": {"labels": {"node-restriction.kubernetes.io/zone": "a"}}})
        await node.ask(operation, f"null/{kind}/{EDGE}", content)
        assert (await world.api.get(NODES, EDGE))["metadata"]["labels"]["node-restriction.kubernetes.io/zone"] == "a"


async def test_a_node_cannot_make_itself_undeletable(world: Any) -> None:
    node = await world.node(EDGE)
    async with node.connected(world.cloud.websocket_port):
        body = {"metadata": {"name": EDGE, "finalizers": ["stay.example/for-ever"], "labels": {"a": "b"}}, "spec": {}, "status": {}}
        await node.ask("insert", f"null/node/{EDGE}", body)
        metadata = (await world.api.get(NODES, EDGE))["metadata"]
        assert metadata["labels"]["a"] == "b"
        assert "finalizers" not in metadata
