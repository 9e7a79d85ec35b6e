"""The whole of Pinnace as child processes on this machine, in order: broker, API, cloudcore, edge, mapper, and the sample applied."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pinnace.cloud.kube.access import load_access
from pinnace.cloud.kube.api import HttpKubeApi
from pinnace.cloud.kube.resources import DEVICES, NODES, SECRETS
from pinnace.cloud.local import configs, pods
from pinnace.cloud.local import record as records
from pinnace.cloud.local.children import Child, PortLost
from pinnace.cloud.local.places import Places, samples
from pinnace.cloud.local.ports import LOOPBACK, MQTT_PORT, TUNNEL_PORT, Chooser, Ports, is_broker, is_own, listen_address
from pinnace.cloud.local.relay import Relay
from pinnace.cloud.ports import KubeApi, Object, Resource
from pinnace.core.base.cli import command_line, program
from pinnace.core.base.errors import LinkError, PinnaceError, RefusedError, RemoteError

T = TypeVar("T")
Say = Callable[[str], None]

NODE: Final = "192.168.4.22-pi2"
"""The name of the Raspberry Pi in the traffic light's own manifests."""
NAMESPACE: Final = "default"
DEVICE: Final = "traffic-light-instance-01"
LAMPS: Final[Mapping[str, int]] = {"red": 26, "yellow": 19, "green": 13}
"""Lamp → pin by BCM number: wiringPi's 25, 24 and 23 of the model."""
WAIT_SECONDS: Final = 60.0
_ATTEMPTS: Final = 5
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, slots=True)
class Options:
    """`advertise` is an IPv4 address under which other machines reach this one; `usual_ports` takes free ones without a word when false;
    `relayed` puts a relay between edge and cloud; `in_pod` runs the mapper as the sample's Deployment says, else it is a process; `pins` is
    auto, real or simulated."""

    folder: Path
    advertise: str = ""
    usual_ports: bool = True
    relayed: bool = False
    in_pod: bool = False
    pins: str = "auto"
    mqtt_port: int = MQTT_PORT
    log_level: str = "info"


class Stack:
    """A running system. Ports and the pins' socket are known while it runs."""

    def __init__(self, options: Options, say: Say) -> None:
        self.places = Places.below(options.folder)
        self.relay: Relay | None = None
        self.token = ""
        self.pods = pods.PodFolders.of(self.places) if options.in_pod else None
        self.pin_socket = ""
        self.mapper_pod = ""
        self._options = options
        self._say = say
        self._children: list[Child] = []
        own = os.getpid()
        self.record = records.Record(records.Process("up", own, records.start_time(own) or 0))
        self._api: HttpKubeApi | None = None
        self.ports = Ports()
        self.has_broker = False

    @property
    def api(self) -> KubeApi:
        assert self._api is not None
        return self._api

    @property
    def is_advertised(self) -> bool:
        return bool(self._options.advertise)

    @property
    def join_line(self) -> str:
        """What a second machine runs to become a node."""
        hub, bootstrap = f"{self._options.advertise}:{self.ports.hub}", self.ports.bootstrap
        tunnel = f" --tunnelport {self.ports.tunnel}" if self.ports.tunnel != TUNNEL_PORT else ""
        return f"pinnace join --cloudcore-ipport {hub} --certport {bootstrap}{tunnel} --token {self.token}"

    @property
    def processes(self) -> list[records.Process]:
        return [each.identity for each in self._children if each.identity is not None]

    def last_words(self, lines: int = 5) -> list[str]:
        """The ends of all logs, for a failure that none of the processes noticed."""
        return [text for each in self._children for text in (f"{each.name}, {each.log}:", *(f"  {line}" for line in each.tail(lines)))]

    async def broken(self) -> None:
        """Wait for one of the processes to end; raises ChildFailed."""
        watching = [asyncio.ensure_future(each.failed()) for each in self._children]
        try:
            done, _ = await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in watching:
                each.cancel()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything up for the length of the block. Raises ChildFailed, RefusedError when the folder is in use."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._owned())
            self._say(f"kept in    {self.places.folder}, logs in {self.places.logs.name}/")
            await self._begin(stack)
            yield

    async def _begin(self, stack: contextlib.AsyncExitStack) -> None:
        """Choose ports and start everything on them; anew when a port was lost to somebody between the one and the other."""
        for attempt in range(1, _ATTEMPTS + 1):
            self._choose_ports()
            self.pin_socket = self.pods.pin_socket if self.pods else str(self.places.pin_socket())
            try:
                async with contextlib.AsyncExitStack() as begun:
                    begun.push_async_callback(self._stop)
                    await self._start(begun)
                    stack.push_async_exit(begun.pop_all())
                return
            except PortLost as lost:
                if attempt == _ATTEMPTS:
                    raise
                self._say(f"somebody took a port meanwhile ({str(lost).partition(';')[0]}): starting again on other ports")
                self._children.clear()
                self.record.children.clear()
                self.relay = None

    @contextlib.contextmanager
    def _owned(self) -> Any:
        """Hold the folder's lock; end what a `pinnace up` that was killed may have left."""
        with self.places.lock.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RefusedError(
                    f"{self.places.folder} is in use by another `pinnace up`: see `{program()} status`, end it with `{program()} down`, "
                    "or give another --dir"
                ) from None
            left = records.read(self.places.record)
            if left is not None and left.alive:
                self._say("ending what an earlier run left: " + ", ".join(f"{each.name} {each.pid}" for each in left.alive))
                records.end(left)
            pods.end(self.places)
            try:
                yield
            finally:
                self.places.record.unlink(missing_ok=True)

    def _choose_ports(self) -> None:
        options = self._options
        if options.advertise and not is_own(options.advertise):
            self._say(f"note: {options.advertise} is no address of this machine; other machines must reach this one under it all the same")
        chooser = Chooser(self._say, usual=options.usual_ports)
        listen = listen_address(options.advertise)
        self.has_broker = options.usual_ports and is_broker(options.mqtt_port)
        hub = chooser.choose("cloudcore's hub", 10000, listen)
        self.ports = Ports(
            mqtt=options.mqtt_port if self.has_broker else chooser.choose("the MQTT broker", options.mqtt_port),
            api=chooser.choose("the Kubernetes API", 6443),
            hub=hub,
            bootstrap=chooser.choose("cloudcore's bootstrap", 10002, listen),
            conversion=chooser.choose("cloudcore's conversion webhook", 10009),
            tunnel=chooser.choose("cloudcore's tunnel", TUNNEL_PORT, listen),
            streams=chooser.choose("cloudcore's stream server", 10003, listen),
            read_only=chooser.choose("the edge's metrics", 10350),
            link=chooser.choose("the relay", 10001) if options.relayed else hub,
        )

    async def _stop(self) -> None:
        if self.relay is not None:
            await self.relay.cut()
        for each in reversed(self._children):
            await each.stop()
        if self.pods is not None:
            await asyncio.to_thread(pods.end, self.places)
        elif self.pin_socket and Path(self.pin_socket).parent != self.places.folder:
            shutil.rmtree(Path(self.pin_socket).parent, ignore_errors=True)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        places, level = self.places, ["--log-level", self._options.log_level]
        if self.has_broker:
            self._say(f"mqtt       a broker answers on port {self.ports.mqtt}: using it")
        else:
            command = [configs.mosquitto(), "-c", str(places.config / "mosquitto.conf")]
            configs.write_text(places.config / "mosquitto.conf", configs.broker(self.ports, places))
            await self._child("mosquitto", command, says_ready=False, is_ready=lambda: is_broker(self.ports.mqtt))
        cloud_kubeconfig = places.config / "cloudcore.kubeconfig"
        await self._child(
            "apiserver",
            command_line(
                "apiserver", "--data-dir", str(places.data / "api"), "--port", str(self.ports.api), "--kubeconfig", str(places.kubeconfig),
                "--cloudcore-kubeconfig", str(cloud_kubeconfig), *level,
            ),
        )  # fmt: skip
        cloud_config, edge_config = places.config / "cloudcore.yaml", places.config / "edgecore.yaml"
        configs.write_yaml(cloud_config, configs.cloudcore(self.ports, places, cloud_kubeconfig, advertise=self._options.advertise))
        await self._child("cloudcore", command_line("cloudcore", "--config", str(cloud_config), *level))
        access = await load_access(kubeconfig=places.kubeconfig)
        self._api = await stack.enter_async_context(HttpKubeApi(access, user_agent="pinnace-up"))
        secret = await self.api.get(SECRETS, "tokensecret", "kubeedge")
        self.token = base64.b64decode(secret["data"]["tokendata"]).decode("ascii")
        if self._options.relayed:
            self.relay = Relay(self.ports.link, self.ports.hub)
            try:
                await self.relay.mend()
            except OSError as error:
                raise PortLost(f"the relay: {error.strerror}") from error
        if self.pods is not None:
            await self._patiently("the mapper's image", self.pods.offer_mapper(self.ports.mqtt, self._options.pins))
        configs.write_yaml(edge_config, configs.edgecore(self.ports, places, NODE, self.token, self.pods))
        await self._child("edgecore", command_line("edgecore", "--config", str(edge_config), *level))
        await self._patiently(f"node {NODE} to become Ready", self._until_node_ready())
        sample = samples("traffic-light")
        for name in ("model.yaml", "instance.yaml"):
            await self._apply(name, configs.manifest(sample / name))
        if self.pods is not None:
            await self._apply("deployment.yaml", configs.manifest(sample / "deployment.yaml"))
            await self._mapper_in_pod()
        else:
            await self._mapper(sample / "model.yaml")

    async def _mapper(self, model: Path) -> None:
        """The mapper as a process of its own."""
        await self._child(
            "mapper",
            command_line(
                "mapper", "gpio", "--device", f"{NAMESPACE}/{DEVICE}", "--profile", str(model), "--numbering", "wiringpi",
                "--mqtturl", f"tcp://{LOOPBACK}:{self.ports.mqtt}", "--port", self._options.pins, "--pin-socket", self.pin_socket,
                "--log-level", self._options.log_level,
            ),
        )  # fmt: skip

    async def _mapper_in_pod(self) -> None:
        began = time.monotonic()
        self.mapper_pod = await self._patiently("the mapper's pod to be ready", self._until_pod_ready())
        self._say(f"pod        {self.mapper_pod}, ready after {time.monotonic() - began:.1f} s")

    async def _until_pod_ready(self) -> str:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await pods.until_ready(self.api, NAMESPACE)
        except TimeoutError:
            said = await pods.waiting_for(self.api, NAMESPACE)
            raise PinnaceError(f"the mapper's pod is not ready after {WAIT_SECONDS:g} s: {said}") from None

    async def _child(self, name: str, command: list[str], *, says_ready: bool = True, is_ready: Callable[[], bool] = lambda: True) -> None:
        child = Child(name, command, self.places.log(name), says_ready=says_ready, is_ready=is_ready)
        self._children.append(child)
        began = time.monotonic()
        await self._patiently(f"{name} to be ready", child.start())
        assert child.identity is not None
        self.record.children.append(child.identity)
        self.record.facts = self._facts()
        self.record.write(self.places.record)
        self._say(f"{name:<10} process {child.identity.pid}, ready after {time.monotonic() - began:.1f} s")

    async def _patiently(self, what: str, work: Awaitable[T]) -> T:
        """Wait for something, and say so when it takes more than a second."""
        task = asyncio.ensure_future(work)
        began = time.monotonic()
        try:
            while not (await asyncio.wait({task}, timeout=1.0 if time.monotonic() - began < 1 else 5.0))[0]:
                self._say(f"waiting for {what} ({time.monotonic() - began:.0f} s)")
            return task.result()
        finally:
            task.cancel()

    async def _until_node_ready(self) -> None:
        """Raises ChildFailed when a process ends meanwhile, PinnaceError when the time is over."""
        ending = asyncio.ensure_future(self.broken())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not await self._is_node_ready():
                    await asyncio.wait({ending}, timeout=0.05)
                    if ending.done():
                        ending.result()
        except TimeoutError:
            log = self.places.log("edgecore")
            raise PinnaceError(f"node {NODE} is not Ready after {WAIT_SECONDS:g} s; the edge's log is {log}") from None
        finally:
            ending.cancel()

    async def _is_node_ready(self) -> bool:
        with contextlib.suppress(RemoteError, LinkError):
            return is_ready(await self.api.get(NODES, NODE))
        return False

    async def _apply(self, name: str, obj: Object) -> None:
        """Create an object. One that is there already keeps the values it was given meanwhile."""
        group, _, version = str(obj["apiVersion"]).rpartition("/")
        kind = str(obj["kind"])
        obj = _as_applied(obj, NAMESPACE)
        resource = Resource(group, version, f"{kind.lower()}s", kind, True)
        try:
            await self.api.create(resource, obj, NAMESPACE)
            self._say(f"applied    {name} ({kind} {obj['metadata']['name']})")
        except RemoteError as error:
            if error.code != 409:
                raise PinnaceError(f"{name}: the API refuses it: {error}") from error
            self._say(f"kept       {kind} {obj['metadata']['name']}, which is there already")

    async def set_desired(self, lamp: str, value: str) -> float:
        """Write a lamp's desired value through the API; returns when the write was begun, in Unix seconds. Raises RemoteError."""
        for _ in range(_ATTEMPTS):
            device = await self.api.get(DEVICES, DEVICE, NAMESPACE)
            index = [each["name"] for each in device["spec"]["properties"]].index(lamp)
            path = f"/spec/properties/{index}"
            patch: list[Object] = [
                {"op": "test", "path": f"{path}/name", "value": lamp},
                {"op": "add", "path": f"{path}/desired/value", "value": value},
            ]
            began = time.time()
            try:
                await self.api.patch(DEVICES, DEVICE, patch, NAMESPACE, content_type="application/json-patch+json")
                return began
            except RemoteError as error:
                if error.code not in {409, 422}:
                    raise
        raise PinnaceError(f"{DEVICE}: {lamp}={value} could not be written in {_ATTEMPTS} attempts, as others write as well")

    def _facts(self) -> dict[str, Any]:
        return {
            "node": NODE,
            "device": f"{NAMESPACE}/{DEVICE}",
            "kubeconfig": str(self.places.kubeconfig),
            "ports": asdict(self.ports),
        }


def _as_applied(obj: Object, namespace: str) -> Object:
    """The object as `kubectl apply` would create it, so that a person may go on with that: its last-applied annotation is on it."""
    metadata = {"annotations": {}, "namespace": namespace, **obj["metadata"]}
    applied = json.dumps({**obj, "metadata": metadata}, sort_keys=True, separators=(",", ":")) + "\n"
    return {**obj, "metadata": {**metadata, "annotations": {**metadata["annotations"], _LAST_APPLIED: applied}}}


def is_ready(node: Object) -> bool:
    """Whether a Node's Ready condition is True."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
