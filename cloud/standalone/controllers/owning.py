"""The writes that workload controllers have in common: adopting and releasing, making and deleting what they own, and saying so."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import orjson

from pinnace.cloud.standalone.controllers.podfacts import Claim, claim, controller_of, reference_to, selects
from pinnace.cloud.standalone.deletion import DeleteOptions, Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects, now_text
from pinnace.cloud.standalone.state import Item, Object
from pinnace.cloud.standalone.status import ApiError

logger = logging.getLogger(__name__)

REMEMBERED_EVENTS: Final = 1_024
"""Events whose repetition counts up the first one instead of making another."""


class Owning:
    """What a controller named `component` does to objects."""

    def __init__(self, objects: Objects, deletion: Deletion, component: str, *, wall: Callable[[], float] = time.time) -> None:
        self.objects = objects
        self.wall = wall
        self._deletion = deletion
        self._component = component
        self._said: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def kind(self, plural: str, group: str = "") -> Kind:
        kind = self.objects.registry.get(group, "v1", plural)
        assert kind is not None
        return kind

    def items(self, kind: Kind, namespace: str | None = None) -> Iterator[Item]:
        return self.objects.state.table(kind.table).items(namespace)

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        item = self.objects.state.table(kind.table).get(namespace, name)
        return item.decode() if item is not None else None

    def candidates(self, owner: Object, kind: Kind) -> Iterator[Object]:
        """Objects that an owner may have to do with: of its namespace, with matching labels or a reference to it."""
        selector, uid = owner["spec"].get("selector"), owner["metadata"]["uid"].encode()
        for item in self.items(kind, owner["metadata"]["namespace"]):
            if uid in item.body or selects(selector, item.labels):
                yield item.decode()

    async def claimed(self, owner: Object, owner_kind: Kind, kind: Kind) -> list[Object]:
        """The objects of a kind that belong to an owner, after adopting and releasing."""
        found: Claim = claim(owner, self.candidates(owner, kind))
        for obj in found.release:
            await self.change(kind, obj, lambda each: _without_owner(each, owner["metadata"]["uid"]))
        adopted = [await self.change(kind, obj, lambda each: _with_owner(each, reference_to(owner, owner_kind))) for obj in found.adopt]
        return [*found.own, *(each for each in adopted if each is not None)]

    async def change(self, kind: Kind, obj: Object, make: Callable[[Object], Object]) -> Object | None:
        """Change an object; None when it is gone, or another one of its name is there. Raises ApiError."""
        metadata = obj["metadata"]

        def same(each: Object) -> Object:
            return make(each) if each["metadata"]["uid"] == metadata["uid"] else each

        try:
            obj = (await self.objects.change(kind, metadata["name"], metadata.get("namespace", ""), same)).obj
        except ApiError as error:
            if error.code != 404:
                raise
            return None
        return obj if obj["metadata"]["uid"] == metadata["uid"] else None

    async def status(self, kind: Kind, obj: Object, status: Object) -> None:
        """Write an object's status."""
        metadata = obj["metadata"]
        await self.objects.change(
            kind, metadata["name"], metadata.get("namespace", ""), lambda old: {**old, "status": status}, subresource="status"
        )  # fmt: skip

    async def delete(self, kind: Kind, obj: Object, options: DeleteOptions | None = None) -> bool:
        """Delete an object, if it still is the same; whether there was one."""
        metadata = obj["metadata"]
        asked = options or DeleteOptions(policy="Background" if kind.plural != "pods" else None, uid=metadata["uid"])
        try:
            await self._deletion.delete(kind, metadata["name"], metadata["namespace"], asked)
        except ApiError as error:
            if error.code not in {404, 409}:
                raise
            return False
        return True

    async def make_pods(self, owner: Object, owner_kind: Kind, templates: Iterable[Object]) -> ApiError | None:
        """Make an owner's pods and say so, until one is refused: that refusal."""
        kind, namespace, reference = self.kind("pods"), owner["metadata"]["namespace"], reference_to(owner, owner_kind)
        made, refusal = [], None
        for template in templates:
            try:
                made.append(await self.objects.create(kind, _pod(owner, reference, template), namespace))
            except ApiError as error:
                refusal = error
                break
        for pod in made:
            await self.say(owner, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        if refusal is not None:
            await self.say(owner, "FailedCreate", f"Error creating: {refusal.message}", is_warning=True)
        return refusal

    async def delete_pod(self, owner: Object, pod: Object) -> None:
        """One of an owner's, and say so."""
        if await self.delete(self.kind("pods"), pod):
            await self.say(owner, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    async def say(self, obj: Object, reason: str, message: str, *, is_warning: bool = False) -> None:
        """An Event about an object; one that was said before is counted up. A refused one is only logged."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or "default"
        kind, key, now = self.kind("events"), (metadata["uid"], reason, message), now_text(self.wall())
        known = self._said.get(key)
        try:
            if known is not None and self.objects.state.table(kind.table).get(namespace, known) is not None:
                await self.objects.change(
                    kind, known, namespace, lambda old: {**old, "count": old.get("count", 1) + 1, "lastTimestamp": now}
                )  # fmt: skip
                return
            name = self._said[key] = f"{metadata['name'][:200]}.{secrets.token_hex(8)}"
            if len(self._said) > REMEMBERED_EVENTS:
                self._said.popitem(last=False)
            about = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
            about |= {part: metadata[part] for part in ("namespace", "name", "uid", "resourceVersion") if part in metadata}
            event = {
                "metadata": {"name": name}, "involvedObject": about, "reason": reason, "message": message[:1024],
                "type": "Warning" if is_warning else "Normal", "count": 1, "firstTimestamp": now, "lastTimestamp": now,
                "source": {"component": self._component}, "reportingComponent": self._component,
            }  # fmt: skip
            await self.objects.create(kind, event, namespace)
        except ApiError as error:
            logger.info("api.event.lost component=%s reason=%s error=%s", self._component, reason, error.message)


def owner_names(items: Iterable[Item | None], kind: Kind) -> Iterator[tuple[str, str]]:
    """(namespace, name) of the controllers of this kind that the states of an object name."""
    for item in items:
        if item is not None and b'"ownerReferences"' in item.body:
            reference = controller_of(item.decode())
            if reference is not None and (reference.get("kind"), reference.get("apiVersion")) == (kind.kind, kind.api_version):
                yield item.namespace, reference.get("name", "")


def _pod(owner: Object, reference: Object, template: Object) -> Object:
    """A new pod by a template, under its owner's name."""
    given = template.get("metadata") or {}
    metadata: Object = {"generateName": f"{owner['metadata']['name'][:57]}-", "ownerReferences": [reference]}
    metadata |= {part: dict(given[part]) for part in ("labels", "annotations") if given.get(part)}
    if given.get("finalizers"):
        metadata["finalizers"] = list(given["finalizers"])
    return {"metadata": metadata, "spec": orjson.loads(orjson.dumps(template["spec"]))}


def _with_owner(obj: Object, reference: Object) -> Object:
    if controller_of(obj) is None:
        obj["metadata"]["ownerReferences"] = [*(obj["metadata"].get("ownerReferences") or ()), reference]
    return obj


def _without_owner(obj: Object, uid: str) -> Object:
    obj["metadata"]["ownerReferences"] = [each for each in obj["metadata"].get("ownerReferences") or () if each.get("uid") != uid]
    return obj
