"""Events of pods and of the node: counted up when repeated, held back when too many, sent through the outbox.

Shapes: Kubernetes API, core/v1 Event; docs/protocol.md, events.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.classes import EVENT
from pinnace.core.base.contract.envelopes import Envelope, Group, Operation, Source, new
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.contract.moments import moment
from pinnace.core.base.errors import StoreError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import Outbox

logger = logging.getLogger(__name__)

KEPT_PER_POD: Final = 20
_KEPT_OBJECTS: Final = 250
_SAME_SECONDS: Final = 600.0
_BURST: Final = 25.0
_REFILL_SECONDS: Final = 300.0
_MESSAGE_CHARACTERS: Final = 1024
_NAME_CHARACTERS: Final = 200
_COMPONENT: Final = "kubelet"


@dataclass(slots=True)
class _About:
    """What is remembered of one object: its last events, and how many more may be sent."""

    events: deque[Object] = field(default_factory=lambda: deque(maxlen=KEPT_PER_POD))
    seen_at: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_PER_POD))
    tokens: float = _BURST
    refilled_at: float = 0.0


class EventRecorder:
    """Implements ports.Events. `is_sending` False keeps them for this machine's own eyes (`recent`)."""

    def __init__(self, node: NodeName, outbox: Outbox, *, is_sending: bool, clock: Clock | None = None) -> None:
        self._node = node
        self._outbox = outbox
        self._is_sending = is_sending
        self._clock = clock or LoopClock()
        self._abouts: OrderedDict[str, _About] = OrderedDict()
        self._serial = 0
        self._is_refused = False
        outbox.compose_with(EVENT, compose)

    def pod(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", is_init: bool = False) -> None:
        reference = dict(pod.reference)
        if container:
            reference["fieldPath"] = f"spec.{'initContainers' if is_init else 'containers'}{{{container}}}"
        self._record(pod.uid, reference, kind, reason, message)

    def node(self, kind: str, reason: str, message: str) -> None:
        reference: Object = {"kind": "Node", "name": self._node, "uid": self._node}
        self._record("", reference, kind, reason, message)

    def recent(self, pod_uid: str = "") -> Sequence[Object]:
        """The newest events of a pod, or of the node for "", oldest first."""
        about = self._abouts.get(pod_uid)
        return tuple(about.events) if about else ()

    def _record(self, uid: str, reference: Object, kind: str, reason: str, message: str) -> None:
        message = message[:_MESSAGE_CHARACTERS]
        about = self._about(uid)
        now, said = self._clock.now(), moment(self._clock.wall())
        same = {"involvedObject": reference, "type": kind, "reason": reason, "message": message}
        event, seen_at = next(
            ((each, at) for each, at in zip(about.events, about.seen_at, strict=True) if same.items() <= each.items()), (None, 0.0)
        )
        operation = Operation.INSERT
        if event is not None and now - seen_at <= _SAME_SECONDS:
            index = about.events.index(event)
            del about.events[index]
            del about.seen_at[index]
            event = {**event, "count": event["count"] + 1, "lastTimestamp": said}
            operation = Operation.PATCH
        else:
            event = self._new(same, said)
        about.events.append(event)
        about.seen_at.append(now)
        if self._is_sending and self._may_send(about, now):
            self._send(operation, event)

    def _new(self, same: Object, said: str) -> Object:
        reference = same["involvedObject"]
        self._serial += 1
        unique = int(self._clock.wall() * 1e9) + self._serial
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{reference['name'][:_NAME_CHARACTERS]}.{unique:x}",
                "namespace": reference.get("namespace") or "default",
                "creationTimestamp": None,
            },
            **same,
            "source": {"component": _COMPONENT, "host": self._node},
            "firstTimestamp": said,
            "lastTimestamp": said,
            "count": 1,
            "eventTime": None,
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._node,
        }

    def _about(self, uid: str) -> _About:
        about = self._abouts.setdefault(uid, _About(refilled_at=self._clock.now()))
        self._abouts.move_to_end(uid)
        if len(self._abouts) > _KEPT_OBJECTS:
            self._abouts.popitem(last=False)
        return about

    @staticmethod
    def _may_send(about: _About, now: float) -> bool:
        """As many as the burst, then one each five minutes, for each object."""
        about.tokens = min(about.tokens + (now - about.refilled_at) / _REFILL_SECONDS, _BURST)
        about.refilled_at = now
        if about.tokens < 1.0:
            return False
        about.tokens -= 1.0
        return True

    def _send(self, operation: str, event: Object) -> None:
        subject = f"{event['metadata']['namespace']}/{event['metadata']['name']}"
        try:
            self._outbox.put(EVENT, subject, operation, orjson.dumps(event))
            self._is_refused = False
        except StoreError as error:
            if not self._is_refused:
                logger.warning("pods.event.lost event=%s reason=%s; the next are tried without a word", subject, error)
            self._is_refused = True


def compose(subject: str, items: Mapping[str, bytes]) -> Envelope:
    """The message of one event: its insert, with what was counted since, or the patch that counts it up."""
    namespace, _, name = subject.partition("/")
    resource = f"{namespace}/event/{name}"
    event: Object = orjson.loads(items.get(Operation.PATCH) or items[Operation.INSERT])
    if Operation.INSERT in items:
        return new(Source.EDGED, Group.META, Operation.INSERT, resource, event)
    patch = {key: event[key] for key in ("count", "lastTimestamp", "message")}
    return new(Source.EDGED, Group.META, Operation.PATCH, resource, {"event": event, "patchData": orjson.dumps(patch).decode()})
