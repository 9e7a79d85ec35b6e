"""Claims find their volumes while their pods wait, in whatever order they come, and the node mounts what they are bound to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.system import NODE, System, eventually

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(240)]
CORE = "/api/v1/namespaces/default"
CLAIMS = f"{CORE}/persistentvolumeclaims"
SIZE = {"storage": "1Mi"}
SAY = ["sh", "-c", "cat /shared/word /local/word >/shared/said; " + pods.FOREVER[-1]]


async def make(kube: KubeClient, path: str, name: str, **parts: Any) -> None:
    status, answer = await kube.ask("POST", path, {"metadata": {"name": name}, **parts})
    assert status == 201, answer


def claim(storage_class: str) -> dict[str, Any]:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}, "storageClassName": storage_class}


def volume(storage_class: str, **source: Any) -> dict[str, Any]:
    return {"accessModes": ["ReadWriteOnce"], "capacity": SIZE, "storageClassName": storage_class, **source}


def mounted(shared: dict[str, Any], local: dict[str, Any]) -> dict[str, Any]:
    mounts = [{"name": each, "mountPath": f"/{each}"} for each in ("shared", "local")]
    return {
        "containers": [pods.container(command=SAY, volumeMounts=mounts)],
        "volumes": [{"name": "shared", **shared}, {"name": "local", **local}],
    }


def of_claim(name: str) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name}}


async def test_pod_first_then_claim_then_volume(node: tuple[System, KubeClient], tmp_path: Path) -> None:
    system, kube = node
    folders = {name: tmp_path / name for name in ("shared", "local", "own", "drawn")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "word").write_text(f"{name}\n")

    deployed = pods.pod("web", **mounted(of_claim("shared"), of_claim("local")))
    del deployed["spec"]["nodeName"]
    template = {"metadata": {"labels": {"app": "web"}}, "spec": deployed["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    await make(kube, "/apis/apps/v1/namespaces/default/deployments", "web", spec=spec)
    ephemeral = {"ephemeral": {"volumeClaimTemplate": {"spec": claim("own")}}}
    await pods.create(kube, pods.pod("bound", **mounted(ephemeral, of_claim("drawn"))))  # it is on the node before it has volumes
    await eventually(
        lambda: kube.get(CLAIMS), lambda found: [each["metadata"]["name"] for each in found["items"]] == ["bound-shared"], system
    )

    provisioner = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    await make(kube, "/apis/storage.k8s.io/v1/storageclasses", "later", **provisioner)
    for name, storage_class in (("shared", ""), ("local", "later"), ("drawn", "")):
        await make(kube, CLAIMS, name, spec=claim(storage_class))

    def is_told(answer: Any) -> bool:
        return {"FailedBinding", "WaitForPodScheduled", "FailedScheduling", "FailedMount"} <= {each["reason"] for each in answer["items"]}

    await eventually(lambda: kube.get(f"{CORE}/events"), is_told, system)
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "hostname", "operator": "In", "values": [NODE]}]}]}}
    volumes = "/api/v1/persistentvolumes"
    by_name = {"claimRef": {"namespace": "default", "name": "drawn"}}
    await make(kube, volumes, "drawn", spec=volume("", local={"path": str(folders["drawn"])}, nodeAffinity=affinity, **by_name))
    await make(kube, volumes, "shared", spec=volume("", hostPath={"path": str(folders["shared"])}))
    await make(kube, volumes, "own", spec=volume("own", hostPath={"path": str(folders["own"])}))
    await make(kube, volumes, "elsewhere", spec=volume("later", local={"path": "/none"}, nodeAffinity={
        "required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "hostname", "operator": "In", "values": ["another"]}]}]}
    }))  # fmt: skip
    await make(kube, volumes, "local", spec=volume("later", local={"path": str(folders["local"])}, nodeAffinity=affinity))

    def all_run(answer: Any) -> bool:
        return len(answer["items"]) == 2 and all(pods.is_running(each) for each in answer["items"])

    await eventually(lambda: kube.get(pods.PODS), all_run, system)
    assert (folders["shared"] / "said").read_text() == "shared\nlocal\n"
    assert (folders["own"] / "said").read_text() == "own\ndrawn\n"
    bound = {each["metadata"]["name"]: each["spec"].get("volumeName") for each in (await kube.get(CLAIMS))["items"]}
    assert bound == {"shared": "shared", "local": "local", "drawn": "drawn", "bound-shared": "own"}

    # A claim in use outlives its deletion; an ephemeral one goes with its pod.
    await kube.ask("DELETE", f"{CLAIMS}/drawn")
    assert (await kube.get(f"{CLAIMS}/drawn"))["status"]["phase"] == "Bound"
    await kube.ask("DELETE", f"{pods.PODS}/bound")
    await eventually(lambda: kube.get(CLAIMS), lambda found: len(found["items"]) == 2, system)

    def are_released(answer: Any) -> bool:
        phases = {each["metadata"]["name"]: each["status"]["phase"] for each in answer["items"]}
        return phases == {"shared": "Bound", "local": "Bound", "own": "Released", "drawn": "Released", "elsewhere": "Available"}

    await eventually(lambda: kube.get(volumes), are_released, system)
