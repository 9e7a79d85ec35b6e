"""Claims, volumes and storage classes as people with kubectl see them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

pytestmark = pytest.mark.kubectl
SIZE = {"storage": "1Gi"}


def put(kubectl: Any, *objects: dict[str, Any]) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def claim(name: str, storage_class: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}, "storageClassName": storage_class}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def volume(name: str, storage_class: str) -> dict[str, Any]:
    spec = {
        "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/srv"},
        "storageClassName": storage_class,
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def row(kubectl: Any, kind: str, name: str) -> dict[str, str]:
    """A row by the headers of its columns."""
    header, line = (str(text) for text in kubectl("get", kind, name).splitlines())
    starts = [at for at in range(len(header)) if header[at] != " " and (at == 0 or header[at - 3 : at] == "   ")]
    ends = [*starts[1:], len(header) + len(line)]
    return {header[start:end].strip(): line[start:end].strip() for start, end in zip(starts, ends, strict=True)}


async def test_a_claims_life(kubectl: Any, eventually: Any) -> None:
    name = storage_class = kubectl.namespace

    async def until(kind: str, which: str, **wanted: str) -> dict[str, str]:
        shown: dict[str, str] = await eventually(
            lambda: asyncio.to_thread(row, kubectl, kind, which), lambda found: wanted.items() <= found.items(), seconds=30
        )
        return {key: value for key, value in shown.items() if key not in {"AGE", "VOLUMEATTRIBUTESCLASS", "REASON"}}

    put(kubectl, claim("c", storage_class))
    assert await until("pvc", "c", STATUS="Pending") == {
        "NAME": "c", "STATUS": "Pending", "VOLUME": "", "CAPACITY": "", "ACCESS MODES": "", "STORAGECLASS": storage_class,
    }  # fmt: skip
    told = kubectl("describe", "pvc", "c")
    assert "ProvisioningFailed" in told
    assert f'storageclass.storage.k8s.io "{storage_class}" not found' in told

    put(kubectl, volume(name, storage_class))
    assert await until("pvc", "c", STATUS="Bound") == {
        "NAME": "c", "STATUS": "Bound", "VOLUME": name, "CAPACITY": "2Gi", "ACCESS MODES": "RWO,ROX", "STORAGECLASS": storage_class,
    }  # fmt: skip
    assert await until("pv", name, STATUS="Bound") == {
        "NAME": name, "CAPACITY": "2Gi", "ACCESS MODES": "RWO,ROX", "RECLAIM POLICY": "Retain", "STATUS": "Bound",
        "CLAIM": f"{kubectl.namespace}/c", "STORAGECLASS": storage_class,
    }  # fmt: skip

    used = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i"}], "volumes": used}
    put(kubectl, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    kubectl("delete", "pvc", "c", "--wait=false")
    assert (await until("pvc", "c", STATUS="Terminating"))["VOLUME"] == name
    kubectl("delete", "pv", name, "--wait=false")
    await until("pv", name, STATUS="Terminating")
    assert "kubernetes.io/pvc-protection" in kubectl("describe", "pvc", "c")
    kubectl("delete", "pod", "p", "--force", "--grace-period=0")
    for kind, which in (("pvc", "c"), ("pv", name)):
        await eventually(
            lambda kind=kind, which=which: asyncio.to_thread(kubectl, "get", kind, which, "--ignore-not-found"), lambda text: not text
        )


def test_storage_classes(kubectl: Any) -> None:
    name = kubectl.namespace
    put(kubectl, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "example.com/x"})
    shown = row(kubectl, "sc", name)
    assert shown.pop("AGE")
    assert shown == {
        "NAME": name, "PROVISIONER": "example.com/x", "RECLAIMPOLICY": "Delete", "VOLUMEBINDINGMODE": "Immediate",
        "ALLOWVOLUMEEXPANSION": "false",
    }  # fmt: skip
    refused = kubectl.result("patch", "sc", name, "-p", '{"provisioner": "another"}')
    assert "updates to provisioner are forbidden" in refused.stderr
    assert "volumeBindingMode" in kubectl("explain", "storageclasses")
    kubectl("delete", "sc", name)
