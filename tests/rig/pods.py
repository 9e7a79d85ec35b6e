"""PodService over parts in memory, a cloud that behaves as Kubernetes does with pods, and a clock that moves only when told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fakes.clock import FakeClock, settle
from fakes.edgeports import FakeObjects
from fakes.podevents import FakeEvents
from fakes.podparts import FakeCgroups, FakeHooks, FakeMaterials, FakeProber
from fakes.runtime import FakeRuntime
from fakes.uplink import FakeUplink

from pinnace.core.base.contract.envelopes import load_body, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import LinkError
from pinnace.core.base.pod import Pod
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.pods.service import PodService
from pinnace.ext.records import Envelope

NODE = NodeName("edge-1")
Object = dict[str, Any]


def pod(name: str = "web", *, uid: str = "", containers: list[Object] | None = None, **spec: Any) -> Object:
    """A Pod object as the API gives it; `containers` may leave out what is usual."""
    main = containers or [{"name": "main"}]
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}"}
    full = [{"image": "app:1", **each} for each in main]
    inits = [{"image": "app:1", **each} for each in spec.pop("initContainers", ())]
    body: Object = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "status": {"phase": "Pending"}}
    body["spec"] = {"nodeName": NODE, "containers": full, "terminationGracePeriodSeconds": 30, **spec}
    if inits:
        body["spec"]["initContainers"] = inits
    return body


class CountingExecutor(concurrent.futures.ThreadPoolExecutor):
    """Knows whether a thread is still at work, so that tests need not guess."""

    def __init__(self) -> None:
        super().__init__(2)
        self._given: list[concurrent.futures.Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._given.append(future)
        return future

    def is_idle(self) -> bool:
        """True once all that was given has ended and the loop had time to hear of it: asked after settling."""
        if not self._given:
            return True
        self._given = [each for each in self._given if not each.done()]
        return False


class FakePodCloud:
    """What the API has of pods. Requests are answered as cloudcore does; `echoes` sends each status write back as an update."""

    def __init__(self, *, echoes: bool = True) -> None:
        self.pods: dict[str, Object] = {}
        self.others: dict[str, Object] = {}
        """What else may be asked for, by name."""
        self.versions = 100
        self.echoes = echoes
        self.downlink: list[ObjectChange] = []
        self.refuse: Callable[[Envelope], Exception | None] = lambda _: None

    def write(self, body: Object) -> ObjectChange:
        self.versions += 1
        name = body["metadata"]["name"]
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.versions)}}
        self.pods[name] = body
        return ObjectChange("update", ResourceKey("pod", "default", name), str(self.versions), json.dumps(body).encode())

    def begin_deletion(self, name: str, grace: int = 30) -> ObjectChange:
        body = self.pods[name]
        metadata = {**body["metadata"], "deletionTimestamp": "2027-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        return self.write({**body, "metadata": metadata})

    def remove(self, name: str) -> ObjectChange:
        body = self.pods.pop(name)
        self.versions += 1
        return ObjectChange("delete", ResourceKey("pod", "default", name), str(self.versions), json.dumps(body).encode())

    def answer(self, envelope: Envelope) -> Envelope:
        error = self.refuse(envelope)
        if error is not None:
            raise error
        _, kind, name = envelope.resource.split("/")
        content = load_body(envelope)
        body = self.pods.get(name)
        match envelope.operation, kind:
            case "patch", "podpatch":
                if body is None:
                    return self._fail(envelope, "NotFound", 404)
                if content["metadata"]["uid"] != body["metadata"]["uid"]:
                    return self._fail(envelope, "Invalid", 422, f'Pod "{name}" is invalid: metadata.uid: Invalid value: field is immutable')
                change = self.write({**body, "status": _merged(body.get("status") or {}, content["status"])})
                if self.echoes:
                    self.downlink.append(change)
                return reply(envelope, {"Object": self.pods[name], "Err": None}, group="resource")
            case "delete", "pod":
                if body is not None and body["metadata"]["uid"] == content["preconditions"]["uid"]:
                    self.downlink.append(self.remove(name))
                return reply(envelope, "OK", group="resource")
            case "insert", "pod":
                if body is not None:
                    return self._fail(envelope, "AlreadyExists", 409)
                made = {**content, "metadata": {**content["metadata"], "uid": f"api-{self.versions}"}, "status": {"phase": "Pending"}}
                self.downlink.append(self.write(made))
                return reply(envelope, {"Object": self.pods[name], "Err": None}, group="resource")
            case "query", _ if name in self.others:
                return reply(envelope, self.others[name], group="resource", resource_version="1")
            case "query", _:
                return reply(envelope, "not found", group="resource", operation="error")
            case _:
                pass
        raise AssertionError(f"unexpected request {envelope.operation} {envelope.resource}")

    @staticmethod
    def _fail(envelope: Envelope, reason: str, code: int, message: str = "") -> Envelope:
        status = {"status": "Failure", "message": message or f"{reason}!", "reason": reason, "code": code}
        return reply(envelope, {"Object": {}, "Err": {"ErrStatus": status}}, group="resource")


class PodWorld:
    """A node. `restart` is the agent's end and next start over the same runtime and store."""

    def __init__(self, folder: Path, *, settings: EdgedSettings | None = None, echoes: bool = True) -> None:
        self.clock = FakeClock()
        self.settings = settings or EdgedSettings(pod_logs_dir=folder / "logs", root_directory=folder / "kubelet")
        self.runtime = FakeRuntime(self.clock)
        self.runtime.images.add("app:1")
        self.objects = FakeObjects()
        self.cloud = FakePodCloud(echoes=echoes)
        self.uplink = FakeUplink(self.cloud.answer)
        self.materials = FakeMaterials(folder / "logs")
        self.prober, self.hooks, self.events, self.cgroups = FakeProber(), FakeHooks(), FakeEvents(), FakeCgroups()
        self.threads = CountingExecutor()
        self.allocatable: Mapping[str, int] = {}
        self.is_closing = False
        self._task: asyncio.Task[None] | None = None
        self.service = self._made()

    def _made(self) -> PodService:
        return PodService(
            self.settings, NODE, objects=self.objects, uplink=self.uplink, runtime=self.runtime, materials=self.materials,
            prober=self.prober, hooks=self.hooks, events=self.events, cgroups=self.cgroups, clock=self.clock,
            host_ips=lambda: ("192.168.4.10",), allocatable=lambda: self.allocatable,
            is_closing=lambda: self.is_closing,
        )  # fmt: skip

    async def start(self, *, online: bool = True, static: Sequence[Pod] | None = ()) -> None:
        """`static` None: nobody has read the node's files yet."""
        if static is not None:
            self.service.set_static(static)
        asyncio.get_running_loop().set_default_executor(self.threads)
        self._task = asyncio.create_task(self.service.run())
        if online:
            await self.uplink.connect()
        await self.settle()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def restart(self, *, online: bool = True, static: Sequence[Pod] | None = ()) -> None:
        await self.stop()
        was_up = self.uplink.is_up
        self.uplink = FakeUplink(self.cloud.answer)
        self.prober = FakeProber()
        self.events.told.clear()
        self.service = self._made()
        await self.start(online=online and was_up, static=static)

    async def settle(self) -> None:
        """Until nothing moves any more but by time; what the cloud has for the node is delivered."""
        for _ in range(200):
            await settle()
            if self.cloud.downlink and self.uplink.is_up:
                await self.deliver(self.cloud.downlink.pop(0))
            elif self.threads.is_idle():
                return
            else:
                await asyncio.sleep(0.0005)
        raise AssertionError("it does not come to rest")

    async def deliver(self, change: ObjectChange) -> None:
        """As core/meta/sync.py does: stored, then told."""
        await self.objects.apply([change])
        await self.service.changed(change)

    async def apply(self, body: Object) -> None:
        """The cloud pushes a pod."""
        await self.deliver(self.cloud.write(body))
        await self.settle()

    async def delete(self, name: str, grace: int = 30) -> None:
        """Somebody deletes a pod in the API."""
        self.cloud.downlink.append(self.cloud.begin_deletion(name, grace))
        await self.settle()

    async def advance(self, seconds: float) -> None:
        await self.settle()
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            await self.clock.advance(min(1.0, end - self.clock.now()))
            await self.settle()

    def status(self, name: str = "web") -> Object:
        """As the node has it."""
        (found,) = [each for each in self.service.pods() if each.name == name]
        return found.status

    def api(self, name: str = "web") -> Object:
        """As the API has it."""
        status: Object = self.cloud.pods[name].get("status") or {}
        return status

    def container(self, name: str = "main", of: str = "web", *, init: bool = False) -> Object:
        part = "initContainerStatuses" if init else "containerStatuses"
        (found,) = [each for each in self.status(of)[part] if each["name"] == name]
        result: Object = found
        return result

    def condition(self, kind: str, of: str = "web") -> Object:
        (found,) = [each for each in self.status(of)["conditions"] if each["type"] == kind]
        result: Object = found
        return result

    def exit(self, name: str, code: int) -> None:
        self.runtime.exit(self.runtime.one(name).id, code)

    def starts(self, name: str = "main") -> int:
        return self.runtime.calls.count(("start_container", name))


def break_link(_: Envelope) -> Exception | None:
    return LinkError("the link broke")


def static_pod(name: str = "local", **spec: Any) -> Pod:
    body = pod(f"{name}-{NODE}", uid=f"hash-{name}", **spec)
    body["metadata"]["annotations"] = {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": f"hash-{name}"}
    del body["status"]
    return Pod(body)


def _merged(target: Object, patch: Object) -> Object:
    """A strategic merge patch of a pod's status, as far as the node sends such: conditions by type, podIPs and hostIPs by ip."""
    result = dict(target)
    for name, value in patch.items():
        key = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}.get(name)
        if value is None:
            result.pop(name, None)
        elif key is not None:
            entries = {each[key]: each for each in result.get(name) or ()}
            for each in value:
                if each.get("$patch") == "delete":
                    entries.pop(each[key], None)
                else:
                    merged = {**entries.get(each[key], {}), **each}
                    entries[each[key]] = {field: said for field, said in merged.items() if said is not None}
            result[name] = list(entries.values())
        else:
            result[name] = value
    return result
