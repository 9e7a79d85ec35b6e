"""Desired state as the cloud pushes it: committed, told to whom it concerns, then acknowledged (docs/protocol.md 2.2)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import orjson

from pinnace.core.base.contract.envelopes import Envelope, Operation, ack, body_text, reply
from pinnace.core.base.contract.keys import LOCAL_KINDS, NodeName, ResourceKey, parse_resource
from pinnace.core.base.errors import StoreError
from pinnace.core.base.ports import ChangeListener, ObjectChange, ObjectStore, StoredObject

logger = logging.getLogger(__name__)

_UPSERTS: Final = frozenset({Operation.INSERT, Operation.UPDATE})
_ANSWERED_OBJECTS: Final = frozenset({"configmap", "secret", "persistentvolume", "persistentvolumeclaim", "volumeattachment"})
"""Kinds whose query is answered with the object itself, which the cloud then takes for stored."""
GONE_BOUND: Final = 256
"""Deleted objects whose version is remembered, against an older push that comes late."""
REFUSALS_BOUND: Final = 256
"""Refused pushes that are not logged again when the cloud repeats them."""


class BadPush(ValueError):
    """A push that cannot be stored, however often it comes."""


class _Push(NamedTuple):
    """What a push does: `change` is what listeners hear, None for one that something newer overtook; `is_write` says whether the store
    lacks it."""

    envelope: Envelope
    change: ObjectChange | None
    is_write: bool


class Sync:
    """Applies pushes of group `resource` to the store; one `handle` at a time, in the order of arrival.

    At least once, applied idempotently: an object whose resource version the store has is not written again, but listeners are called
    again, since the cloud repeats what an earlier run did not acknowledge. An older version of the same object (same uid) after a newer
    one changes nothing and is acknowledged. What cannot be stored is answered with operation `error`, which the cloud does not take for an
    acknowledgement, and logged once.
    """

    def __init__(self, store: ObjectStore, *, node: NodeName) -> None:
        self._store = store
        self._node = node
        self._listeners: dict[str, list[ChangeListener]] = {}
        self._gone: OrderedDict[tuple[ResourceKey, str], str] = OrderedDict()
        self._refused: OrderedDict[tuple[str, str], None] = OrderedDict()

    def on_change(self, kind: str, listener: ChangeListener) -> None:
        """Call `listener` with each durable change of a kind ("device", "pod", ...), before it is acknowledged. If it raises, the push
        is not acknowledged and comes again."""
        self._listeners.setdefault(kind, []).append(listener)

    async def handle(self, envelope: Envelope) -> list[Envelope]:
        """Apply one push; returns what to answer."""
        try:
            push = self._read(envelope)
            if push is None:
                return []
            if push.change is not None and push.is_write:
                await self._store.apply([push.change])
        except (BadPush, StoreError) as error:
            return [self._refuse(envelope, error)]
        return [await self._tell(push)]

    def _read(self, envelope: Envelope) -> _Push | None:
        """What the push does to the store; None for a message that is no push. Raises BadPush, StoreError."""
        key = parse_resource(envelope.resource)
        operation = envelope.operation
        if envelope.parent_id and not (operation == Operation.RESPONSE and key.kind in _ANSWERED_OBJECTS):
            return None
        if not key.name:
            raise BadPush("not the address of an object (<namespace>/<kind>/<name>)")
        if key.kind in LOCAL_KINDS:
            raise BadPush(f"rows of kind {key.kind} are the node's own")
        known = self._store.get(key)
        text = body_text(envelope)
        if operation == Operation.PATCH:
            text, operation = _patched(known, text), Operation.UPDATE
        metadata = _metadata(text, optional=operation == Operation.DELETE)
        version = envelope.resource_version or _text(metadata, "resourceVersion")
        uid = _text(metadata, "uid")
        if operation == Operation.DELETE:
            if known is not None and _is_other(uid, known.body):
                return _Push(envelope, None, is_write=False)  # of an earlier object of that name
            self._remember_gone(key, uid, version)  # true even if the store refuses: what is older than a deletion is old
            return _Push(envelope, ObjectChange(operation, key, version, text), is_write=known is not None)
        if operation not in _UPSERTS and not envelope.parent_id:
            raise BadPush(f"unknown operation {operation!r}")
        if _is_older(version, self._gone.get((key, uid), "")):
            return _Push(envelope, None, is_write=False)
        if known is None:
            return _Push(envelope, ObjectChange(Operation.INSERT, key, version, text), is_write=True)
        if _is_older(version, known.version) and not _is_other(uid, known.body):
            return _Push(envelope, None, is_write=False)
        is_same = version == known.version if version else text == known.body
        if is_same:
            return _Push(envelope, ObjectChange(Operation.UPDATE, key, version, known.body), is_write=False)
        return _Push(envelope, ObjectChange(Operation.UPDATE, key, version, text), is_write=True)

    def _remember_gone(self, key: ResourceKey, uid: str, version: str) -> None:
        if uid and version:
            self._gone[key, uid] = version
            if len(self._gone) > GONE_BOUND:
                self._gone.popitem(last=False)

    async def _tell(self, push: _Push) -> Envelope:
        """Call the listeners of what is durable; the acknowledgement, or the error if one of them could not take it."""
        if push.change is not None:
            for listener in self._listeners.get(push.change.key.kind, ()):
                try:
                    await listener(push.change)
                except StoreError as error:
                    return self._refuse(push.envelope, error)
                except Exception as error:  # the border between the cloud's data and the services
                    logger.exception("sync.listener-failed node=%s resource=%s", self._node, push.envelope.resource)
                    return reply(push.envelope, f"{type(error).__name__}: {error}", operation=Operation.ERROR)
        self._refused.pop(_seen(push.envelope), None)
        return ack(push.envelope)

    def _refuse(self, envelope: Envelope, error: Exception) -> Envelope:
        seen = _seen(envelope)
        if seen not in self._refused:
            self._refused[seen] = None
            if len(self._refused) > REFUSALS_BOUND:
                self._refused.popitem(last=False)
            logger.warning(
                "sync.refused node=%s operation=%s resource=%r version=%s: %s",
                self._node, envelope.operation, envelope.resource[:300], envelope.resource_version or "-", error,
            )  # fmt: skip
        return reply(envelope, str(error), operation=Operation.ERROR)


def _seen(envelope: Envelope) -> tuple[str, str]:
    return envelope.resource[:300], envelope.resource_version[:40]


def _metadata(text: bytes, *, optional: bool) -> dict[str, Any]:
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if optional:
            return {}
        raise BadPush(f"its content is no JSON: {error}") from error
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if isinstance(metadata, dict):
        return metadata
    if optional:
        return {}
    raise BadPush("its content is no object with metadata")


def _text(metadata: dict[str, Any], name: str) -> str:
    value = metadata.get(name)
    return value if isinstance(value, str) else ""


def _is_older(version: str, than: str) -> bool:
    """Resource versions compare as numbers where both are some, as the cloud's queue compares them; otherwise nothing is older."""
    return _is_number(version) and _is_number(than) and int(version) < int(than)


def _is_number(version: str) -> bool:
    return version.isdecimal() and len(version) <= 20


def _is_other(uid: str, body: bytes) -> bool:
    """Whether `body` is an object of another uid, both being known."""
    if not uid:
        return False
    theirs = _text(_metadata(body, optional=True), "uid")
    return bool(theirs) and theirs != uid


def _patched(known: StoredObject | None, text: bytes) -> bytes:
    """A JSON merge patch (RFC 7386) applied to the stored object."""
    if known is None:
        raise BadPush("a patch of an object that is not stored")
    try:
        patch = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadPush(f"its patch is no JSON: {error}") from error
    if not isinstance(patch, dict):
        raise BadPush("its patch is no object")
    try:
        return orjson.dumps(_merged(orjson.loads(known.body), patch))
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise BadPush("its patch is nested too deeply") from error


def _merged(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value) if isinstance(value, dict) else value
    return result
