"""What cloudcore takes for granted of an API server, asked of the embedded one over HTTPS and of the fake that unit tests use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.kube import FakeKube

from pinnace.cloud.kube import HttpKubeApi, load_access
from pinnace.cloud.kube.resources import CONFIG_MAPS, LEASES, NODES
from pinnace.cloud.ports import KubeApi, Object, WatchEvent
from pinnace.cloud.standalone.server import ServerSettings, admin_file, serving
from pinnace.core.base.errors import LinkError, RemoteError


@pytest.fixture(params=["embedded", "fake"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeApi]:
    if request.param == "fake":
        yield FakeKube()
        return
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(ServerSettings(tmp_path / "api", port=0, clients=(admin_file(tmp_path / "config"),))))
        yield await stack.enter_async_context(HttpKubeApi(await load_access(kubeconfig=tmp_path / "config")))


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


async def failure(call: Any) -> tuple[int, str]:
    with pytest.raises(RemoteError) as caught:
        await call
    return caught.value.code, caught.value.reason


async def test_an_object_is_made_once_and_found(api: KubeApi) -> None:
    made = await api.create(CONFIG_MAPS, config("a", x="1"), "default")
    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"].isdecimal()
    found = await api.get(CONFIG_MAPS, "a", "default")
    assert (found["kind"], found["apiVersion"], found["data"]) == ("ConfigMap", "v1", {"x": "1"})
    assert await failure(api.create(CONFIG_MAPS, config("a"), "default")) == (409, "AlreadyExists")
    assert await failure(api.get(CONFIG_MAPS, "b", "default")) == (404, "NotFound")


async def test_a_list_says_what_its_objects_are(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config("a"), "default")
    await api.create(CONFIG_MAPS, config("b"), "default")
    items, version = await api.list(CONFIG_MAPS, "default")
    mine = [each for each in items if each["metadata"]["name"] in {"a", "b"}]
    assert [each["kind"] for each in mine] == ["ConfigMap"] * 2
    assert version.isdecimal()
    assert (await api.list(NODES))[0] == []


async def test_a_cluster_scoped_object_has_no_namespace(api: KubeApi) -> None:
    made = await api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})
    assert "namespace" not in made["metadata"]
    assert (await api.get(NODES, "n"))["metadata"]["uid"] == made["metadata"]["uid"]


async def test_whoever_writes_an_old_state_is_told(api: KubeApi) -> None:
    old = await api.create(CONFIG_MAPS, config("a", x="1"), "default")
    new = await api.replace(CONFIG_MAPS, {**old, "data": {"x": "2"}}, "a", "default")
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert await failure(api.replace(CONFIG_MAPS, {**old, "data": {"x": "3"}}, "a", "default")) == (409, "Conflict")


async def test_a_merge_patch_changes_what_it_names(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config("a", x="1", y="1"), "default")
    patched = await api.patch(CONFIG_MAPS, "a", {"data": {"x": "2", "y": None}}, "default")
    assert patched["data"] == {"x": "2"}
    assert await failure(api.patch(CONFIG_MAPS, "b", {"data": {}}, "default")) == (404, "NotFound")


async def test_a_json_patch_is_carried_out_whole_or_not_at_all(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config("a", x="1"), "default")
    json_patch = "application/json-patch+json"
    change = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "add", "path": "/data/y", "value": "2"}]
    patched = await api.patch(CONFIG_MAPS, "a", change, "default", content_type=json_patch)
    assert patched["data"] == {"x": "1", "y": "2"}
    stale: list[Object] = [{"op": "add", "path": "/data/z", "value": "3"}, {"op": "test", "path": "/data/x", "value": "other"}]
    assert (await failure(api.patch(CONFIG_MAPS, "a", stale, "default", content_type=json_patch)))[0] == 422
    assert (await api.get(CONFIG_MAPS, "a", "default"))["data"] == {"x": "1", "y": "2"}


async def test_a_deleted_object_is_gone(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config("a"), "default")
    await api.delete(CONFIG_MAPS, "a", "default")
    assert await failure(api.delete(CONFIG_MAPS, "a", "default")) == (404, "NotFound")


async def test_a_watch_tells_all_that_happens_after_a_version(api: KubeApi) -> None:
    await api.create(CONFIG_MAPS, config("before"), "default")
    _, version = await api.list(CONFIG_MAPS)
    await api.create(CONFIG_MAPS, config("a", x="1"), "default")
    events: list[WatchEvent] = []

    async def follow() -> None:
        async for event in api.watch(CONFIG_MAPS, resource_version=version):
            if event.object["metadata"].get("name") in {"before", "a"}:
                events.append(event)
            if event.type == "DELETED":
                return

    follower = asyncio.create_task(follow())
    await api.patch(CONFIG_MAPS, "a", {"data": {"x": "2"}}, "default")
    await api.delete(CONFIG_MAPS, "a", "default")
    async with asyncio.timeout(20):
        await follower
    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert versions[0] > int(version)


async def test_a_renewed_lease_keeps_its_owner(api: KubeApi) -> None:
    body = {"metadata": {"name": "n", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}}
    made = await api.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **body}, "kube-node-lease")
    made["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    renewed = await api.replace(LEASES, made, "n", "kube-node-lease")
    assert renewed["spec"]["holderIdentity"] == "n"


async def test_nobody_there_is_a_link_error(tmp_path: Path) -> None:
    async with HttpKubeApi(await load_access(master="http://127.0.0.1:1")) as api:
        with pytest.raises(LinkError, match="the Kubernetes API cannot be reached"):
            await api.get(NODES, "n")
