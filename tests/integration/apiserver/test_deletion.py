"""Deletion: finalizers, preconditions, grace, the garbage collector, namespaces."""

from __future__ import annotations

from typing import Any

POD = {"containers": [{"name": "c", "image": "i"}]}


def owned(name: str, owner: Any, **more: Any) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], **more}
    return {"metadata": {"name": name, "ownerReferences": [reference]}}


async def test_at_once(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = await client.create(path, {"metadata": {"name": "a"}})
    status, answer = await client.ask("DELETE", f"{path}/a")
    assert (status, answer["status"]) == (200, "Success")
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
    assert (await client.ask("DELETE", f"{path}/a"))[0] == 404


async def test_finalizers_hold(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    await client.create(path, {"metadata": {"name": "a", "finalizers": ["x.io/y"]}})
    status, held = await client.ask("DELETE", f"{path}/a")
    assert status == 200
    assert held["metadata"]["deletionTimestamp"]
    assert (await client.ask("DELETE", f"{path}/a")) == (200, held)
    status, answer = await client.ask("POST", path, {"metadata": {"name": "a"}})
    assert (status, answer["message"]) == (409, 'object is being deleted: configmaps "a" already exists')
    more = {"metadata": {"finalizers": ["x.io/y", "x.io/z"]}}
    assert (await client.ask("PATCH", f"{path}/a", more, content_type="application/merge-patch+json"))[0] == 422
    last = await client.merge(f"{path}/a", {"metadata": {"finalizers": []}})
    assert last["metadata"]["resourceVersion"] == held["metadata"]["resourceVersion"]
    assert (await client.ask("GET", f"{path}/a"))[0] == 404


async def test_preconditions_and_options(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = await client.create(path, {"metadata": {"name": "a"}})
    wrong = {"preconditions": {"uid": "11111111-1111-1111-1111-111111111111"}}
    status, answer = await client.ask("DELETE", f"{path}/a", wrong)
    assert (status, answer["details"]["kind"]) == (409, "ConfigMap")
    assert (await client.ask("DELETE", f"{path}/a", {"preconditions": {"resourceVersion": "1"}}))[0] == 409
    assert (await client.ask("DELETE", f"{path}/a", {"propagationPolicy": "Bogus"}))[0] == 422
    assert (await client.ask("DELETE", f"{path}/a", {"propagationPolicy": "Orphan", "orphanDependents": True}))[0] == 422
    assert (await client.ask("DELETE", f"{path}/a", {"gracePeriodSeconds": "x"}))[0] == 400
    assert (await client.ask("DELETE", f"{path}/a", {"kind": "Pod", "apiVersion": "v1"}))[0] == 400
    assert (await client.ask("DELETE", f"{path}/a?dryRun=All"))[0] == 200
    right = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert (await client.ask("DELETE", f"{path}/a", right, content_type=""))[0] == 200


async def test_collections(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    for name, label in (("a", "1"), ("b", "1"), ("c", "2")):
        await client.create(path, {"metadata": {"name": name, "labels": {"x": label}}})
    status, answer = await client.ask("DELETE", f"{path}?labelSelector=x%3D1")
    assert (status, answer["kind"]) == (200, "SecretList")
    assert [item["metadata"]["name"] for item in answer["items"]] == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await client.get(path))["items"]] == ["c"]


async def test_pods_get_their_grace(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    made = await client.create(path, {"metadata": {"name": "p"}, "spec": POD})
    assert made["metadata"]["generation"] == 1
    target = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n9"}}
    assert (await client.ask("POST", f"{path}/p/binding", target))[0] == 201
    status, answer = await client.ask("POST", f"{path}/p/binding", target)
    assert (status, answer["details"]["kind"]) == (409, "pods/binding")
    assert (await client.get(f"{path}/p"))["spec"]["nodeName"] == "n9"
    _, ending = await client.ask("DELETE", f"{path}/p")
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
    _, longer = await client.ask("DELETE", f"{path}/p", {"gracePeriodSeconds": 60})
    assert longer == ending
    _, shorter = await client.ask("DELETE", f"{path}/p", {"gracePeriodSeconds": 3})
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 3
    assert shorter["metadata"]["deletionTimestamp"] < ending["metadata"]["deletionTimestamp"]
    status, gone = await client.ask("DELETE", f"{path}/p?gracePeriodSeconds=0")
    assert (status, gone["kind"]) == (200, "Pod")
    assert (await client.ask("GET", f"{path}/p"))[0] == 404


async def test_unbound_pods_go_at_once_and_logs_are_empty(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    await client.create(path, {"metadata": {"name": "p"}, "spec": POD})
    assert (await client.ask("GET", f"{path}/p/log"))[0] == 204
    assert (await client.ask("GET", f"{path}/p/log?container=zz"))[0] == 400
    assert (await client.ask("POST", f"{path}/p/exec?command=ls"))[0] == 400
    status, answer = await client.ask(
        "POST", f"{path}/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    )
    assert (status, answer["status"]) == (201, "Success")
    assert (await client.ask("GET", f"{path}/p"))[0] == 404


async def test_background_collection(client: Any, ns: str, eventually: Any) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    owner = await client.create(path, {"metadata": {"name": "owner"}})
    await client.create(path, owned("dependent", owner))
    await client.create(path, owned("second", owner))
    await client.ask("DELETE", f"{path}/owner", {"propagationPolicy": "Background"})
    await eventually(lambda: client.ask("GET", f"{path}/dependent"), lambda answer: answer[0] == 404)
    await eventually(lambda: client.ask("GET", f"{path}/second"), lambda answer: answer[0] == 404)


async def test_foreground_takes_dependents_first(client: Any, ns: str, eventually: Any) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    owner = await client.create(path, {"metadata": {"name": "owner"}})
    held = owned("dependent", owner, blockOwnerDeletion=True)
    held["metadata"]["finalizers"] = ["x.io/hold"]
    await client.create(path, held)
    _, answer = await client.ask("DELETE", f"{path}/owner", {"propagationPolicy": "Foreground"})
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    await eventually(lambda: client.get(f"{path}/dependent"), lambda obj: "deletionTimestamp" in obj["metadata"])
    assert (await client.ask("GET", f"{path}/owner"))[0] == 200
    await client.merge(f"{path}/dependent", {"metadata": {"finalizers": None}})
    await eventually(lambda: client.ask("GET", f"{path}/owner"), lambda answer: answer[0] == 404)


async def test_orphans_stay(client: Any, ns: str, eventually: Any) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    owner = await client.create(path, {"metadata": {"name": "owner"}})
    await client.create(path, owned("dependent", owner))
    await client.ask("DELETE", f"{path}/owner", {"propagationPolicy": "Orphan"})
    await eventually(lambda: client.ask("GET", f"{path}/owner"), lambda answer: answer[0] == 404)
    assert "ownerReferences" not in (await client.get(f"{path}/dependent"))["metadata"]


async def test_an_owner_that_never_was(client: Any, ns: str, eventually: Any) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    ghost = {"metadata": {"name": "ghost", "uid": "11111111-1111-1111-1111-111111111111"}}
    await client.create(path, owned("dependent", ghost))
    await eventually(lambda: client.ask("GET", f"{path}/dependent"), lambda answer: answer[0] == 404)


async def test_namespaces_come_furnished_and_go_empty(client: Any, eventually: Any) -> None:
    base = "/api/v1/namespaces/furnished"
    made = await client.create("/api/v1/namespaces", {"metadata": {"name": "furnished"}})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "furnished"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    await eventually(lambda: client.ask("GET", f"{base}/serviceaccounts/default"), lambda answer: answer[0] == 200)
    _, root = await eventually(lambda: client.ask("GET", f"{base}/configmaps/kube-root-ca.crt"), lambda answer: answer[0] == 200)
    assert "BEGIN CERTIFICATE" in root["data"]["ca.crt"]
    await client.create(f"{base}/configmaps", {"metadata": {"name": "held", "finalizers": ["x.io/y"]}})
    _, ending = await client.ask("DELETE", base)
    assert ending["status"]["phase"] == "Terminating"
    status, answer = await client.ask("POST", f"{base}/configmaps", {"metadata": {"name": "late"}})
    assert (status, answer["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")

    def remaining(obj: Any) -> bool:
        return any(
            each["type"] == "NamespaceFinalizersRemaining" and each["status"] == "True" for each in obj["status"].get("conditions", [])
        )

    seen = await eventually(lambda: client.get(base), remaining)
    status, again = await client.ask("DELETE", base)
    assert (status, again["metadata"]["deletionTimestamp"]) == (200, ending["metadata"]["deletionTimestamp"])
    assert (again["kind"], again["spec"], again["status"]["phase"]) == ("Namespace", seen["spec"], "Terminating")
    await client.merge(f"{base}/configmaps/held", {"metadata": {"finalizers": None}})
    await eventually(lambda: client.ask("GET", base), lambda answer: answer[0] == 404)
    status, answer = await client.ask("DELETE", "/api/v1/namespaces/default")
    assert (status, answer["message"]) == (403, 'namespaces "default" is forbidden: this namespace may not be deleted')
