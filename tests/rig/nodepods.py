"""Pods of every kind for tests of a whole node, and how a test waits for them."""

from __future__ import annotations

from typing import Any

from rig.kube import KubeClient
from rig.podplaces import BUSYBOX
from rig.system import NODE, System, eventually

PODS = "/api/v1/namespaces/default/pods"
FOREVER = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def container(name: str = "main", command: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": command or FOREVER, **more}


def pod(name: str, *, containers: list[dict[str, Any]] | None = None, network: bool = False, **spec: Any) -> dict[str, Any]:
    """Of the host's network unless `network`; grace is short, so that tests are."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": NODE,
            "hostNetwork": not network,
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": False,
            "containers": containers or [container()],
            **spec,
        },
    }


def every_kind() -> list[dict[str, Any]]:
    """Ten pods: networks, restart policies, volumes of all sorts, init containers, sidecars, probes, tokens, pull policies."""
    mounted = [container(volumeMounts=[{"name": "v", "mountPath": "/v"}])]
    return [
        pod("plain"),
        pod("own-network", network=True),
        pod(
            "configured",
            containers=[
                container(
                    volumeMounts=[{"name": "v", "mountPath": "/v"}],
                    env=[{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "colours", "key": "lamp"}}}],
                )
            ],
            volumes=[{"name": "v", "configMap": {"name": "colours"}}],
        ),
        pod("secretive", containers=mounted, volumes=[{"name": "v", "secret": {"secretName": "hidden"}}]),
        pod("with-token", containers=[container()], automountServiceAccountToken=True),
        pod(
            "prepared",
            initContainers=[
                container("first", ["sh", "-c", "echo ready >/v/state"], volumeMounts=[{"name": "v", "mountPath": "/v"}]),
                container("beside", restartPolicy="Always"),
            ],
            containers=mounted,
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
        pod(
            "in-memory",
            containers=[
                container(
                    volumeMounts=[
                        {"name": "m", "mountPath": "/m", "subPath": "part"},
                        {"name": "d", "mountPath": "/d"},
                    ]
                )
            ],
            volumes=[
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ],
        ),
        pod("on-failure", restartPolicy="OnFailure"),
        pod("always-pulled", containers=[container(imagePullPolicy="Always")]),
        pod(
            "probed",
            containers=[
                container(
                    readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1},
                    livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1},
                    startupProbe={"exec": {"command": ["true"]}, "periodSeconds": 1},
                )
            ],
        ),
    ]


async def provide(kube: KubeClient) -> None:
    """The config map and the secret that `every_kind` uses."""
    for kind, body in (
        ("configmaps", {"metadata": {"name": "colours"}, "data": {"lamp": "red"}}),
        ("secrets", {"metadata": {"name": "hidden"}, "data": {"word": "c2VjcmV0"}}),
    ):
        status, answer = await kube.ask("POST", f"/api/v1/namespaces/default/{kind}", body)
        assert status == 201, answer


async def create(kube: KubeClient, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        status, answer = await kube.ask("POST", PODS, body)
        assert status == 201, answer


async def run_every_kind(kube: KubeClient, system: System) -> dict[str, Any]:
    """Name → Pod of `every_kind`, made on the node and all Running and Ready."""
    await provide(kube)
    bodies = every_kind()
    await create(kube, *bodies)
    names = [each["metadata"]["name"] for each in bodies]
    found = await until_running(kube, system, *names)
    return {name: found[name] for name in names}


async def until_running(kube: KubeClient, system: System, *names: str) -> dict[str, Any]:
    """Name → Pod, once all are Running and Ready."""

    def all_running(answer: Any) -> bool:
        found = {each["metadata"]["name"]: each for each in answer["items"]}
        return all(name in found and is_running(found[name]) for name in names)

    answer = await eventually(lambda: kube.get(PODS), all_running, system)
    return {each["metadata"]["name"]: each for each in answer["items"]}


def is_running(body: dict[str, Any]) -> bool:
    """Whether a Pod is Running with all its containers ready."""
    status = body.get("status") or {}
    ready = [each for each in status.get("conditions") or () if each["type"] == "Ready" and each["status"] == "True"]
    return status.get("phase") == "Running" and bool(ready)


def restarts(body: dict[str, Any]) -> dict[str, int]:
    """Container → restart count."""
    return {each["name"]: each["restartCount"] for each in body["status"].get("containerStatuses") or ()}


def container_ids(body: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["containerID"] for each in body["status"].get("containerStatuses") or ()}
