"""Endpoints and EndpointSlices: the pods behind each Service with a selector, and whether they are ready (Kubernetes API)."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import orjson

from pinnace.cloud.standalone.controllers.controller import Controller, Key
from pinnace.cloud.standalone.controllers.podfacts import has_ended, is_ending, is_ready, reference_to
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects, equal
from pinnace.cloud.standalone.state import Change, Item, Object, Table

SERVICE: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
CONTROLLER: Final = "endpointslice-controller.k8s.io"
_MANAGED: Final = "endpoints.kubernetes.io/managed-by"


def ports_of(service: Object, pod: Object) -> list[Object]:
    """The service's ports as this pod serves them; one whose name no container has is left out."""
    found = []
    for port in (service.get("spec") or {}).get("ports") or ():
        number, protocol = port.get("targetPort") or port.get("port"), port.get("protocol") or "TCP"
        if isinstance(number, str):
            named = (each for container in pod["spec"].get("containers") or () for each in container.get("ports") or ())
            number = next(
                (each["containerPort"] for each in named if (each.get("name"), each.get("protocol") or "TCP") == (number, protocol)), None
            )
        if number:
            found.append({"name": port.get("name") or "", "port": int(number), "protocol": protocol})
    return found


def reachable(pod: Object) -> str:
    """A pod's address, "" while it has none that may stand in an endpoint (Kubernetes API, EndpointAddress)."""
    text = str((pod.get("status") or {}).get("podIP") or "")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return "" if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast else text


def grouped(service: Object, pods: Iterable[Object]) -> list[tuple[list[Object], list[Object]]]:
    """Pods that serve under the same port numbers: (ports, pods), in a stable order."""
    groups: defaultdict[bytes, list[Object]] = defaultdict(list)
    for pod in sorted(pods, key=lambda each: each["metadata"]["name"]):
        if reachable(pod) and not has_ended(pod):
            groups[orjson.dumps(ports_of(service, pod))].append(pod)
    return [(orjson.loads(ports), groups[ports]) for ports in sorted(groups)]


def subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The subsets of an Endpoints object: pods that end are not in it."""
    takes_all, made = bool((service.get("spec") or {}).get("publishNotReadyAddresses")), []
    for ports, members in grouped(service, [pod for pod in pods if not is_ending(pod)]):
        ready = [_address(pod) for pod in members if takes_all or is_ready(pod)]
        waiting = [_address(pod) for pod in members if not (takes_all or is_ready(pod))]
        subset: Object = {"addresses": ready} if ready else {}
        subset |= {"notReadyAddresses": waiting} if waiting else {}
        shown = [{key: value for key, value in port.items() if value} for port in ports]
        made.append(subset | ({"ports": shown} if shown else {}))
    return made


def slices(service: Object, pods: Iterable[Object]) -> dict[str, Object]:
    """EndpointSlices by name, without their labels and owner: one for each set of ports and family of addresses."""
    takes_all = bool((service.get("spec") or {}).get("publishNotReadyAddresses"))
    made: dict[str, Object] = {}
    for ports, members in grouped(service, pods):
        for family in ("IPv4", "IPv6"):
            found = [pod for pod in members if (":" in reachable(pod)) == (family == "IPv6")]
            if found:
                mark = hashlib.blake2b(orjson.dumps([ports, family]), digest_size=4).hexdigest()
                name = f"{service['metadata']['name'][:50]}-{mark}"
                made[name] = {"addressType": family, "endpoints": [_endpoint(pod, takes_all=takes_all) for pod in found], "ports": ports}
    return made


def _reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}


def _address(pod: Object) -> Object:
    return {"ip": reachable(pod), "nodeName": pod["spec"].get("nodeName", ""), "targetRef": _reference(pod)}


def _endpoint(pod: Object, *, takes_all: bool) -> Object:
    serves, ends = is_ready(pod), is_ending(pod)
    conditions = {"ready": takes_all or (serves and not ends), "serving": takes_all or serves, "terminating": ends}
    return {
        "addresses": [reachable(pod)], "conditions": conditions, "nodeName": pod["spec"].get("nodeName", ""), "targetRef": _reference(pod),
    }  # fmt: skip


class Endpoints(Controller):
    """The controller; its keys are Services."""

    def __init__(self, objects: Objects, deletion: Deletion) -> None:
        super().__init__(objects, deletion, "endpoint-controller", "services")
        self._endpoints = self._own.kind("endpoints")
        self._slices = self._own.kind("endpointslices", "discovery.k8s.io")

    def _changed(self, table: Table, change: Change) -> None:
        item = change.item
        if table.resource == self._pods.table:
            for service in self._own.items(self._kind, item.namespace):
                if _selects(service, item) or (change.previous is not None and _selects(service, change.previous)):
                    self._rounds.touch((service.namespace, service.name))

    async def _reconcile(self, key: Key) -> float | None:
        namespace, name = key
        service = self._own.find(self._kind, name, namespace)
        endpoints = self._own.find(self._endpoints, name, namespace)
        if service is None:
            if endpoints is not None and (endpoints["metadata"].get("labels") or {}).get(_MANAGED):
                await self._own.delete(self._endpoints, endpoints)
            return None  # its slices are the garbage collector's
        spec = service.get("spec") or {}
        if not spec.get("selector") or spec.get("type") == "ExternalName" or is_ending(service):
            return None
        pods = [item.decode() for item in self._own.items(self._pods, namespace) if spec["selector"].items() <= item.labels.items()]
        labels = {**(service["metadata"].get("labels") or {}), _MANAGED: "endpoint-controller"}
        await self._put(self._endpoints, {"metadata": {"name": name, "labels": labels}, "subsets": subsets(service, pods)}, namespace)
        labels = {**(service["metadata"].get("labels") or {}), SERVICE: name, MANAGED_BY: CONTROLLER}
        wanted = slices(service, pods)
        for each, content in wanted.items():
            metadata = {"name": each, "labels": labels, "ownerReferences": [reference_to(service, self._kind)]}
            await self._put(self._slices, {"metadata": metadata, **content}, namespace)
        for item in list(self._own.items(self._slices, namespace)):
            mine = (item.labels.get(SERVICE), item.labels.get(MANAGED_BY)) == (name, CONTROLLER)
            if mine and item.name not in wanted:
                await self._own.delete(self._slices, item.decode())
        return None

    async def _put(self, kind: Kind, wanted: Object, namespace: str) -> None:
        """Make an object, or bring its labels and content to what is wanted."""
        metadata: dict[str, Any] = wanted["metadata"]
        known = self._own.find(kind, metadata["name"], namespace)
        if known is None:
            await self._own.objects.create(kind, wanted, namespace)
            return
        content = {part: value for part, value in wanted.items() if part != "metadata"}

        def changed(old: Object) -> Object:
            return {**old, **content, "metadata": {**old["metadata"], **metadata}}

        if not equal(changed(known), known):
            await self._own.objects.change(kind, metadata["name"], namespace, changed)


def _selects(service: Item, pod: Item) -> bool:
    if b'"selector":{' not in service.body:
        return False
    selector = (service.decode().get("spec") or {}).get("selector") or {}
    return bool(selector) and selector.items() <= pod.labels.items()
