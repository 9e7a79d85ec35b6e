"""PodMaterials with everything around them in memory, but for the pods' folders."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fakes.clock import FakeClock
from fakes.edgeports import FakeObjects
from fakes.podevents import FakeEvents
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import Envelope, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey, parse_resource
from pinnace.core.base.pod import Pod
from pinnace.core.base.ports import StoredObject
from pinnace.core.base.runtime import ContainerConfig, Image
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.pods.material import Host, PodMaterials
from pinnace.core.pods.material.mounts import Mounts

HOST_IP = "192.168.4.10"
IMAGE = Image("sha256:1", ("docker.io/library/busybox:1",), (), 1)


class FakeCgroups:
    """Implements Cgroups, without any."""

    def __init__(self, above: str) -> None:
        self._above = above

    def parent(self, pod: Pod) -> str:
        return f"{self._above}/pod{pod.uid}"

    async def ensure(self, pod: Pod) -> None:
        pass

    async def remove(self, pod_uid: str) -> None:
        pass

    def leftovers(self) -> Collection[str]:
        return ()

    def working_set(self, pod_uid: str) -> int:
        return 0


class MaterialsWorld:
    """`cloud` holds what the cloud has, by key; tokens it gives to everybody who asks."""

    def __init__(self, root: Path, mounts: Mounts, *, cgroup: str = "/kubepods/besteffort") -> None:
        self.root = root
        self.cgroup = cgroup
        self.mounts = mounts
        self.clock = FakeClock()
        self.objects = FakeObjects()
        self.events = FakeEvents()
        self.cloud: dict[ResourceKey, Any] = {}
        self.uplink = FakeUplink(self.give)
        self.given = 0
        resolv = root / "resolv.conf"
        resolv.write_text("nameserver 192.168.4.1\nsearch lan\n")
        self.settings = EdgedSettings(
            root_directory=root / "kubelet",
            pod_logs_dir=root / "logs",
            tailored_kubelet_config=KubeletSettings(resolv_conf=resolv),
        )
        self.restart()

    def restart(self) -> None:
        """A new agent over the same disk and store."""
        host = Host(NodeName("pi"), 1 << 30, lambda: [HOST_IP], lambda: {"cpu": "4", "memory": "1Gi"})
        self.materials = PodMaterials(
            self.settings,
            host,
            objects=self.objects,
            uplink=self.uplink,
            events=self.events,
            cgroups=FakeCgroups(self.cgroup),
            clock=self.clock,
            mounts=self.mounts,
        )

    def give(self, request: Envelope) -> Envelope:
        key = parse_resource(request.resource)
        if key.kind == "serviceaccounttoken":
            self.given += 1
            wanted = json.loads(request.body)
            uid = wanted["spec"]["boundObjectRef"]["uid"]
            return reply(request, {"spec": wanted["spec"], "status": {"token": f"token-{uid}-{self.given}"}}, group="resource")
        if key in self.cloud:
            return reply(request, self.cloud[key], group="resource", resource_version="1")
        return reply(request, {"ErrStatus": {"message": f"{key.name} not found", "reason": "NotFound", "code": 404}}, group="resource")

    def store(self, kind: str, name: str, namespace: str = "shop", **content: Any) -> None:
        key = ResourceKey(kind, namespace, name)
        self.objects.stored[key] = StoredObject(
            key, "1", json.dumps({"metadata": {"name": name, "namespace": namespace}, **content}).encode()
        )

    def folder(self, uid: str = "u-1") -> Path:
        return self.root / "kubelet/pods" / uid

    async def config(
        self, pod: Pod, index: int = 0, *, attempt: int = 0, ips: tuple[str, ...] = ("10.88.0.7",), image: Image = IMAGE
    ) -> ContainerConfig:
        sandbox = self.materials.sandbox_config(pod, 0)
        container = pod.all_containers[index]
        return await self.materials.container_config(pod, container, attempt=attempt, image=image, pod_ips=ips, sandbox=sandbox)


def secret_data(**texts: str) -> dict[str, str]:
    return {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}


def pod_with(
    *volumes: dict[str, Any], container: dict[str, Any] | None = None, uid: str = "u-1", metadata: dict[str, Any] | None = None, **spec: Any
) -> Pod:
    """A pod of one container, `main`, that has each volume at /<its name> unless the container says otherwise."""
    own = {
        "name": "main",
        "image": "busybox:1",
        "volumeMounts": [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes],
    }
    about = {"name": "web", "namespace": "shop", "uid": uid, **(metadata or {})}
    return Pod({"metadata": about, "spec": {"containers": [own | (container or {})], "volumes": list(volumes), **spec}})
