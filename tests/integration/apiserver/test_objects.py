"""Writing and reading over HTTPS: the rules of create, update, patch, status, selectors, pages."""

from __future__ import annotations

from typing import Any

import pytest


def cm(name: str, **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, **rest.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **rest}


async def test_create_fills_in_what_the_server_decides(client: Any, ns: str) -> None:
    body = cm("a", data={"k": "v"}, metadata={"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "managedFields": [{}]})
    made = await client.create(f"/api/v1/namespaces/{ns}/configmaps", body)
    metadata = made["metadata"]
    assert metadata["namespace"] == ns
    assert metadata["uid"] != "mine"
    assert int(metadata["resourceVersion"]) > 0
    assert not metadata["creationTimestamp"].startswith("2001")
    assert "managedFields" not in metadata
    assert made["data"] == {"k": "v"}
    assert await client.get(f"/api/v1/namespaces/{ns}/configmaps/a") == made


async def test_a_missing_content_type_means_json(client: Any, ns: str) -> None:
    status, body = await client.ask("POST", f"/api/v1/namespaces/{ns}/configmaps", {"metadata": {"name": "a"}}, content_type="")
    assert (status, body["kind"]) == (201, "ConfigMap")


async def test_yaml_in_and_out(client: Any, ns: str) -> None:
    text = b"metadata: {name: y}\ndata: {when: 2026-01-01}\n"
    status, _ = await client.ask("POST", f"/api/v1/namespaces/{ns}/configmaps", text, content_type="application/yaml")
    assert status == 201
    status, shown = await client.ask("GET", f"/api/v1/namespaces/{ns}/configmaps/y", Accept="application/yaml")
    assert "when: '2026-01-01'" in shown


async def test_generate_name(client: Any, ns: str) -> None:
    made = await client.create(f"/api/v1/namespaces/{ns}/configmaps", {"metadata": {"generateName": "g-"}})
    assert made["metadata"]["name"].startswith("g-")
    assert len(made["metadata"]["name"]) == 7


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("configmaps", {"metadata": {"name": "a", "resourceVersion": "5"}}, (500, None)),
        ("configmaps", {"metadata": {"name": "a", "namespace": "other"}}, (400, "BadRequest")),
        ("configmaps", {"metadata": {}}, (422, "Invalid")),
        ("configmaps", {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "a"}}, (400, "BadRequest")),
        ("configmaps", [], (400, "BadRequest")),
        ("configmaps", b"{", (400, "BadRequest")),
        ("configmaps/a", {"metadata": {"name": "a"}}, (405, "MethodNotAllowed")),
        ("nothings", {"metadata": {"name": "a"}}, (404, "NotFound")),
    ],
)
async def test_create_refuses(client: Any, ns: str, path: str, body: Any, refusal: tuple[int, str | None]) -> None:
    status, answer = await client.ask("POST", f"/api/v1/namespaces/{ns}/{path}", body)
    assert (status, answer.get("reason")) == refusal
    assert answer["code"] == status
    assert answer["kind"] == "Status"


async def test_create_in_a_missing_namespace(client: Any) -> None:
    status, answer = await client.ask("POST", "/api/v1/namespaces/nonesuch/configmaps", cm("a"))
    assert (status, answer["message"]) == (404, 'namespaces "nonesuch" not found')


async def test_create_twice(client: Any, ns: str) -> None:
    await client.create(f"/api/v1/namespaces/{ns}/configmaps", cm("a"))
    status, answer = await client.ask("POST", f"/api/v1/namespaces/{ns}/configmaps", cm("a"))
    assert (status, answer["reason"], answer["message"]) == (409, "AlreadyExists", 'configmaps "a" already exists')


async def test_dry_run_stores_nothing(client: Any, ns: str) -> None:
    status, answer = await client.ask("POST", f"/api/v1/namespaces/{ns}/configmaps?dryRun=All", cm("a"))
    assert status == 201
    assert "resourceVersion" not in answer["metadata"]
    assert (await client.ask("GET", f"/api/v1/namespaces/{ns}/configmaps/a"))[0] == 404


async def test_optimistic_concurrency(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = await client.create(path, cm("a", data={"n": "1"}))
    status, second = await client.ask("PUT", f"{path}/a", {**made, "data": {"n": "2"}})
    assert status == 200
    assert int(second["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    status, answer = await client.ask("PUT", f"{path}/a", {**made, "data": {"n": "3"}})
    assert (status, answer["reason"]) == (409, "Conflict")
    status, answer = await client.ask("PUT", f"{path}/a", cm("a", data={"n": "4"}))
    assert (status, answer["data"]) == (200, {"n": "4"})
    stale = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"n": "5"}}
    status, answer = await client.ask("PATCH", f"{path}/a", stale, content_type="application/merge-patch+json")
    assert (status, answer["reason"]) == (409, "Conflict")


async def test_a_write_that_changes_nothing_keeps_the_version(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = await client.create(path, cm("a", data={"n": "1"}))
    assert await client.merge(f"{path}/a", {"data": {"n": "1"}}) == made
    status, same = await client.ask("PUT", f"{path}/a", made)
    assert (status, same) == (200, made)


async def test_put_checks_names_and_uids(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = await client.create(path, cm("a"))
    assert (await client.ask("PUT", f"{path}/a", cm("b")))[0] == 400
    assert (await client.ask("PUT", f"{path}/a", {"data": {}}))[0] == 400
    assert (await client.ask("PUT", f"{path}/none", cm("none")))[0] == 404
    wrong = {"metadata": {"name": "a", "uid": "11111111-1111-1111-1111-111111111111"}}
    assert (await client.ask("PUT", f"{path}/a", wrong))[0] == 409
    assert (await client.ask("PATCH", f"{path}/a", wrong, content_type="application/merge-patch+json"))[0] == 422
    assert (await client.get(f"{path}/a"))["metadata"]["uid"] == made["metadata"]["uid"]


async def test_patch_needs_a_known_type(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    await client.create(path, cm("a"))
    for media in ("", "application/json", "text/plain"):
        assert (await client.ask("PATCH", f"{path}/a", {}, content_type=media))[0] == 415
    status, answer = await client.ask("PATCH", f"{path}/a", cm("a"), content_type="application/apply-patch+yaml")
    assert (status, answer["reason"]) == (415, "UnsupportedMediaType")
    assert "server-side apply" in answer["message"]


async def test_json_patch(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    await client.create(path, cm("a", data={"n": "1"}))
    operations = [{"op": "test", "path": "/data/n", "value": "1"}, {"op": "add", "path": "/data/m", "value": "2"}]
    status, answer = await client.ask("PATCH", f"{path}/a", operations, content_type="application/json-patch+json")
    assert (status, answer["data"]) == (200, {"n": "1", "m": "2"})


async def test_status_is_apart(client: Any) -> None:
    name = "status-is-apart"
    made = await client.create("/api/v1/nodes", {"metadata": {"name": name}, "spec": {"podCIDR": "10.0.0.0/24"}})
    patch = {"spec": {"unschedulable": True}, "status": {"nodeInfo": {"kubeletVersion": "v1"}}}
    changed = await client.merge(f"/api/v1/nodes/{name}/status", patch)
    assert changed["status"]["nodeInfo"]["kubeletVersion"] == "v1"
    assert changed["spec"] == made["spec"]
    changed = await client.merge(f"/api/v1/nodes/{name}", patch | {"status": {"nodeInfo": {"kubeletVersion": "v2"}}})
    assert changed["spec"]["unschedulable"] is True
    assert changed["status"]["nodeInfo"]["kubeletVersion"] == "v1"
    await client.ask("DELETE", f"/api/v1/nodes/{name}")


async def test_generation_counts_the_spec(client: Any, ns: str, eventually: Any) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/replicasets"
    template = {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "1"}}, "template": template}
    made = await client.create(path, {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"}, "spec": spec})
    assert made["metadata"]["generation"] == 1
    assert (await client.merge(f"{path}/r", {"spec": {"replicas": 2}}))["metadata"]["generation"] == 2
    assert (await client.merge(f"{path}/r", {"metadata": {"labels": {"x": "y"}}}))["metadata"]["generation"] == 2
    assert (await client.merge(f"{path}/r/status", {"status": {"replicas": 2}}))["metadata"]["generation"] == 2
    # the controller says so as well, once it has made both pods
    scale = await eventually(lambda: client.get(f"{path}/r/scale"), lambda found: found["status"]["replicas"] == 2)
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 2}, {"replicas": 2, "selector": "a=1"})
    assert (await client.merge(f"{path}/r/scale", {"spec": {"replicas": 5}}))["spec"] == {"replicas": 5}
    assert (await client.get(f"{path}/r"))["metadata"]["generation"] == 3
    assert (await client.ask("PATCH", f"{path}/r/scale", {"spec": {"replicas": -1}}, content_type="application/merge-patch+json"))[0] == 422


async def test_pages_show_one_version(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    for index in range(5):
        await client.create(path, {"metadata": {"name": f"s{index}"}})
    first = await client.get(f"{path}?limit=2")
    assert [item["metadata"]["name"] for item in first["items"]] == ["s0", "s1"]
    assert first["metadata"]["remainingItemCount"] == 3
    assert "kind" not in first["items"][0]
    await client.ask("DELETE", f"{path}/s2")
    await client.merge(f"{path}/s3", {"metadata": {"labels": {"new": "1"}}})
    token = first["metadata"]["continue"]
    second = await client.get(f"{path}?limit=2&continue={token}")
    assert [item["metadata"]["name"] for item in second["items"]] == ["s2", "s3"]
    assert "labels" not in second["items"][1]["metadata"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    last = await client.get(f"{path}?limit=2&continue={second['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in last["items"]] == ["s4"]
    assert "continue" not in last["metadata"]
    assert (await client.ask("GET", f"{path}?limit=2&continue=xyz"))[0] == 400
    assert (await client.ask("GET", f"{path}?limit=2&continue={token}&resourceVersion=5"))[0] == 400
    exact = await client.get(f"{path}?resourceVersion={first['metadata']['resourceVersion']}&resourceVersionMatch=Exact")
    assert len(exact["items"]) == 5


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("resourceVersion=abc", 400),
        ("resourceVersion=99999999", 504),
        ("limit=abc", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=5&resourceVersionMatch=Bogus", 422),
        ("limit=-1", 200),
        ("resourceVersion=0&limit=1", 200),
    ],
)
async def test_list_parameters(client: Any, query: str, code: int) -> None:
    status, _ = await client.ask("GET", f"/api/v1/namespaces?{query}")
    assert status == code


async def test_selectors(client: Any, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/secrets"
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "2"}), ("c", {})):
        await client.create(path, {"metadata": {"name": name, "labels": labels}})
    found = await client.get(f"{path}?labelSelector=x%3D1")
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    found = await client.get(f"/api/v1/secrets?fieldSelector=metadata.name%3Db,metadata.namespace%3D{ns}")
    assert [item["metadata"]["name"] for item in found["items"]] == ["b"]


async def test_trailing_slashes_and_paths(client: Any, ns: str) -> None:
    assert (await client.get(f"/api/v1/namespaces/{ns}/secrets/"))["kind"] == "SecretList"
    assert (await client.get("/version/"))["major"] == "1"
    assert (await client.ask("GET", "/api/v1//nodes"))[0] == 404
    assert (await client.ask("GET", "/apis/nope/v1/things"))[:2] == (404, "404 page not found\n")
    assert (await client.ask("HEAD", f"/api/v1/namespaces/{ns}"))[0] == 405
    assert (await client.ask("POST", "/api/v1/configmaps", cm("a")))[0] == 405


async def test_not_acceptable(client: Any) -> None:
    assert (await client.ask("GET", "/api/v1/nodes", Accept="text/html"))[0] == 406
    assert (await client.ask("GET", "/api/v1/nodes", Accept="application/json;as=Table;v=v9;g=meta.k8s.io"))[0] == 406
    fallback = await client.get("/api/v1/nodes", Accept="application/json;as=Table;v=v9;g=meta.k8s.io,application/json")
    assert fallback["kind"] == "NodeList"
    table = await client.get("/api/v1/namespaces", Accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
    assert table["kind"] == "Table"
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_events_are_two_views_of_one_object(client: Any, ns: str) -> None:
    body = {
        "metadata": {"name": "e1"},
        "involvedObject": {"kind": "Pod", "namespace": ns, "name": "p"},
        "reason": "R",
        "message": "M",
        "type": "Normal",
    }
    await client.create(f"/api/v1/namespaces/{ns}/events", body)
    new = await client.get(f"/apis/events.k8s.io/v1/namespaces/{ns}/events/e1")
    assert (new["apiVersion"], new["note"], new["regarding"]["name"]) == ("events.k8s.io/v1", "M", "p")
    body = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e2"},
        "regarding": {"kind": "Pod", "namespace": ns, "name": "p"},
        "reason": "R", "note": "N", "type": "Normal", "action": "A", "reportingController": "c", "reportingInstance": "i",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    }  # fmt: skip
    await client.create(f"/apis/events.k8s.io/v1/namespaces/{ns}/events", body)
    old = await client.get(f"/api/v1/namespaces/{ns}/events/e2")
    assert (old["apiVersion"], old["message"], old["involvedObject"]["name"]) == ("v1", "N", "p")
    listed = await client.get(f"/apis/events.k8s.io/v1/namespaces/{ns}/events")
    assert {item["note"] for item in listed["items"]} == {"M", "N"}


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"[" * 5000, "application/json"),
        (b'{"metadata":{"name":"a"},"data":' + b'{"x":' * 3000 + b"1" + b"}" * 3001, "application/json"),
        (b'{"metadata":{"name":5}}', "application/json"),
        (b'{"metadata":[]}', "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"1: 2\n3: [", "application/yaml"),
        (b"a: !!binary |\n  aGVsbG8=\n", "application/yaml"),
        (b"k8s\x00garbage", "application/vnd.kubernetes.protobuf"),
        (b"x" * (4 << 20), "application/json"),
    ],
)
async def test_garbage_is_refused_and_the_server_lives(client: Any, ns: str, body: bytes, media: str) -> None:
    status, _ = await client.ask("POST", f"/api/v1/namespaces/{ns}/configmaps?fieldValidation=Strict", body, content_type=media)
    assert 400 <= status < 500
    assert (await client.ask("GET", "/healthz"))[0] == 200
