"""The Python client `kubernetes`, synchronous and asyncio, as users call it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client as sync_client
from kubernetes import config, watch

any_config: Any = config
any_watch: Any = watch


@pytest.fixture
def core(server: Any) -> Iterator[Any]:
    api = any_config.new_client_from_config(str(server.kubeconfig))
    yield sync_client.CoreV1Api(api)
    api.close()


def test_objects(core: Any, ns: str) -> None:
    body = sync_client.V1ConfigMap(metadata=sync_client.V1ObjectMeta(name="a"), data={"k": "1"})
    made = core.create_namespaced_config_map(ns, body)
    assert made.metadata.resource_version
    changed = core.patch_namespaced_config_map("a", ns, {"data": {"k": "2"}})
    assert changed.data == {"k": "2"}
    changed.data["k"] = "3"
    assert core.replace_namespaced_config_map("a", ns, changed).data == {"k": "3"}
    assert [item.metadata.name for item in core.list_namespaced_config_map(ns, label_selector="none=1").items] == []
    assert core.delete_namespaced_config_map("a", ns)["status"] == "Success"
    with pytest.raises(sync_client.ApiException) as missing:
        core.read_namespaced_config_map("a", ns)
    assert missing.value.status == 404


def test_watch(core: Any, ns: str) -> None:
    version = core.list_namespaced_secret(ns).metadata.resource_version

    def later() -> None:
        core.create_namespaced_secret(ns, sync_client.V1Secret(metadata=sync_client.V1ObjectMeta(name="s")))
        core.delete_namespaced_secret("s", ns)

    thread = threading.Thread(target=later)
    thread.start()
    seen = []
    for event in any_watch.Watch().stream(core.list_namespaced_secret, ns, resource_version=version, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 2:
            break
    thread.join()
    assert seen == [("ADDED", "s"), ("DELETED", "s")]


def test_dynamic_client(server: Any, ns: str) -> None:
    from kubernetes import dynamic as found

    dynamic: Any = found

    with any_config.new_client_from_config(str(server.kubeconfig)) as api:
        maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
        maps.create(body={"metadata": {"name": "dyn"}}, namespace=ns)
        assert "dyn" in [item.metadata.name for item in maps.get(namespace=ns).items]


async def test_asyncio_client(server: Any, ns: str) -> None:
    from kubernetes.aio import client as aio_client
    from kubernetes.aio import config as found

    aio_config: Any = found

    configuration = aio_client.Configuration()
    await aio_config.load_kube_config(str(server.kubeconfig), client_configuration=configuration)
    async with asyncio.timeout(20), aio_client.ApiClient(configuration) as api:
        core: Any = aio_client.CoreV1Api(api)
        await core.create_namespaced_config_map(ns, aio_client.V1ConfigMap(metadata=aio_client.V1ObjectMeta(name="a")))
        assert "a" in [item.metadata.name for item in (await core.list_namespaced_config_map(ns)).items]
