"""Pods that the node cannot honour say so in Kubernetes' own words, go on trying where that can help, and no other pod notices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.processes import free_port
from rig.system import System, eventually

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(240)]
EVENTS = "/api/v1/namespaces/default/events"
Said = Callable[[dict[str, Any]], object]


def waits(*reasons: str) -> Said:
    """A container waits for one of these reasons."""

    def said(body: dict[str, Any]) -> bool:
        statuses = body["status"].get("containerStatuses") or ()
        return any(each["state"].get("waiting", {}).get("reason") in reasons for each in statuses)

    return said


def failed(reason: str) -> Said:
    return lambda body: (body["status"].get("phase"), body["status"].get("reason")) == ("Failed", reason)


def variable(**source: Any) -> list[dict[str, Any]]:
    return [pods.container(env=[{"name": "A", "valueFrom": source}])]


def volume(**source: Any) -> dict[str, Any]:
    return {"containers": [pods.container(volumeMounts=[{"name": "v", "mountPath": "/v"}])], "volumes": [{"name": "v", **source}]}


def image(name: str, policy: str = "IfNotPresent") -> list[dict[str, Any]]:
    return [pods.container() | {"image": name, "imagePullPolicy": policy}]


NOWHERE = "127.0.0.1:1/none/such:1"
SHOWN: dict[str, tuple[dict[str, Any], Said]] = {
    "unknown-image": ({"containers": image(NOWHERE)}, waits("ErrImagePull", "ImagePullBackOff")),
    "never-pulled": ({"containers": image(NOWHERE, "Never")}, waits("ErrImageNeverPull")),
    "bad-name": ({"containers": image("Not A Name")}, waits("InvalidImageName")),
    "no-config-map": (
        {"containers": variable(configMapKeyRef={"name": "nowhere", "key": "k"})},
        waits("CreateContainerConfigError"),
    ),
    "no-such-key": ({"containers": variable(configMapKeyRef={"name": "colours", "key": "nowhere"})}, waits("CreateContainerConfigError")),
    "must-not-be-root": ({"securityContext": {"runAsNonRoot": True}}, waits("CreateContainerConfigError")),
    "no-such-program": ({"containers": [pods.container(command=["/no/such/program"])]}, waits("RunContainerError", "CrashLoopBackOff")),
    "too-large": ({"containers": [pods.container(resources={"requests": {"cpu": "4000"}})]}, failed("OutOfcpu")),
    "elsewhere": ({"nodeSelector": {"no": "where"}}, failed("NodeAffinity")),
    "forbidden-sysctl": (
        {"hostNetwork": False, "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        failed("SysctlForbidden"),
    ),
}
MOUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "no-volume": (volume(configMap={"name": "nowhere"}), "nowhere"),
    "no-folder": (volume(hostPath={"path": "/no/such/folder", "type": "Directory"}), "/no/such/folder"),
    "csi": (volume(csi={"driver": "nobody.example"}), "csi"),
}


async def test_what_cannot_be_honoured_is_said_and_nobody_else_notices(node: tuple[System, KubeClient]) -> None:
    system, kube = node
    await pods.provide(kube)
    port = free_port()
    taken = [pods.container(ports=[{"containerPort": port, "hostPort": port}])]
    await pods.create(kube, pods.pod("good", containers=taken))
    before = await pods.until_running(kube, system, "good")

    await pods.create(kube, *(pods.pod(name, **spec) for name, (spec, _) in (SHOWN | MOUNTS).items()))
    await pods.create(kube, pods.pod("port-taken", containers=taken))
    for name, said in {**{name: said for name, (_, said) in SHOWN.items()}, "port-taken": failed("NodePorts")}.items():
        await eventually(partial(kube.get, f"{pods.PODS}/{name}"), said, system)
    for name, (_, word) in MOUNTS.items():

        def is_told(answer: Any, name: str = name, word: str = word) -> bool:
            told = [each for each in answer["items"] if each["involvedObject"].get("name") == name and each["reason"] == "FailedMount"]
            return any(word in each["message"] for each in told)

        await eventually(lambda: kube.get(EVENTS), is_told, system)
        body = await kube.get(f"{pods.PODS}/{name}")
        assert body["status"]["phase"] == "Pending"
        assert waits("ContainerCreating")(body)

    after = await kube.get(f"{pods.PODS}/good")
    assert pods.container_ids(after) == pods.container_ids(before["good"])
    assert pods.restarts(after) == {"main": 0}
    assert pods.is_running(after)

    # What was missing comes, and the pods go on by themselves; what was wrong is deleted like any other.
    body = {"metadata": {"name": "nowhere"}, "data": {"k": "v"}}
    assert (await kube.ask("POST", "/api/v1/namespaces/default/configmaps", body))[0] == 201
    await pods.until_running(kube, system, "no-config-map", "no-volume")
    for name in (*SHOWN, *MOUNTS, "port-taken", "good"):
        await kube.ask("DELETE", f"{pods.PODS}/{name}")
    await eventually(lambda: kube.get(pods.PODS), lambda answer: not answer["items"], system)
