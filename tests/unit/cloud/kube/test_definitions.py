"""Our definitions get into the API, keep what others stored, and say where the conversion webhook is."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from fakes.kube import FakeKube

from pinnace.cloud.kube import definitions
from pinnace.cloud.kube.definitions import Webhook, apply_definitions, find_folder, load_definitions, with_webhook
from pinnace.cloud.kube.resources import DEFINITIONS
from pinnace.cloud.ports import Object
from pinnace.core.base.errors import ConfigError, RemoteError

HOOK = Webhook(ca="PEM", path="/convert", url="https://127.0.0.1:1")


def loaded(name: str, webhook: Webhook | None = HOOK) -> Object:
    return with_webhook(next(each for each in load_definitions(find_folder()) if each["metadata"]["name"].startswith(f"{name}.")), webhook)


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    async def at_once(*_: Any, **__: Any) -> None:
        return

    monkeypatch.setattr(definitions, "wait_until_served", at_once)
    return FakeKube()


def test_the_projects_own_are_found() -> None:
    names = [each["metadata"]["name"] for each in load_definitions(find_folder())]
    assert names == sorted(names)
    assert {"devices.devices.kubeedge.io", "objectsyncs.reliablesyncs.kubeedge.io"} <= set(names)


def test_a_folder_without_any_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no custom resource definitions in {tmp_path}"):
        find_folder(tmp_path)


def test_only_definitions_of_several_versions_are_converted() -> None:
    config = loaded("devices")["spec"]["conversion"]["webhook"]["clientConfig"]
    assert config == {"url": "https://127.0.0.1:1/convert", "caBundle": base64.b64encode(b"PEM").decode()}
    assert "conversion" not in loaded("objectsyncs")["spec"]
    assert "conversion" not in loaded("devices", None)["spec"]
    service = loaded("devices", Webhook(ca="PEM", path="/convert", service=("kubeedge", "cloudcore", 443)))
    assert service["spec"]["conversion"]["webhook"]["clientConfig"]["service"] == {
        "namespace": "kubeedge", "name": "cloudcore", "port": 443, "path": "/convert",
    }  # fmt: skip


async def test_they_are_made_once_and_then_left_alone(kube: FakeKube) -> None:
    for _ in range(2):
        await apply_definitions(kube, [loaded("devices")])
    assert [each for each in kube.requests if each[0] in {"create", "replace"}] == [
        ("create", "customresourcedefinitions", "devices.devices.kubeedge.io")
    ]


async def test_a_version_somebody_stored_stays_served_but_is_not_written(kube: FakeKube) -> None:
    old = loaded("devices", None)
    alien = {"name": "v1alpha2", "served": True, "storage": True, "schema": {}}
    live = {**old, "spec": {**old["spec"], "versions": [alien]}, "status": {"storedVersions": ["v1alpha2"]}}
    kube.put(DEFINITIONS, live)
    await apply_definitions(kube, [loaded("devices")])
    found = kube.find(DEFINITIONS, "devices.devices.kubeedge.io")
    assert found is not None
    assert [(each["name"], each["storage"]) for each in found["spec"]["versions"]] == [
        ("v1beta1", True), ("v1alpha1", False), ("v1alpha2", False),
    ]  # fmt: skip


async def test_schemas_of_others_are_kept_when_told_so(kube: FakeKube) -> None:
    live = loaded("devices", None)
    live["spec"]["versions"][0]["schema"] = {"theirs": True}
    kube.put(DEFINITIONS, live)
    await apply_definitions(kube, [loaded("devices")], replace=False)
    found = kube.find(DEFINITIONS, "devices.devices.kubeedge.io")
    assert found is not None
    assert found["spec"]["versions"][0]["schema"] == {"theirs": True}
    assert found["spec"]["conversion"]["strategy"] == "Webhook"


async def test_a_conflict_is_tried_again(kube: FakeKube) -> None:
    kube.put(DEFINITIONS, loaded("devices", None))
    left = [RemoteError("changed meanwhile", reason="Conflict", code=409)]

    def fail(verb: str, resource: Any, name: str) -> None:
        if verb == "replace" and left:
            raise left.pop()

    kube.fail_with = fail
    await apply_definitions(kube, [loaded("devices")])
    assert left == []
    found = kube.find(DEFINITIONS, "devices.devices.kubeedge.io")
    assert found is not None
    assert "conversion" in found["spec"]
