"""The ports through which the edge's services meet. `agent.py` hands each service what it needs; no service imports another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pinnace.core.base.contract.classes import MessageClass
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.ext.records import Envelope


class StoredObject(NamedTuple):
    """A Kubernetes object as the edge keeps it: `body` is its JSON text, `version` its resource version ("" when the cloud sent none)."""

    key: ResourceKey
    version: str
    body: bytes


class ObjectChange(NamedTuple):
    """One change of desired state. `operation` is insert, update or delete; an insert of a known key is an update and the reverse."""

    operation: str
    key: ResourceKey
    version: str
    body: bytes


class ObjectStore(Protocol):
    """Desired objects. Reads come from the cache in memory and never wait; writes are durable (synchronous=FULL) before they return."""

    def get(self, key: ResourceKey) -> StoredObject | None: ...

    def list(self, kind: str, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[StoredObject]:
        """All objects of a kind, in key order; namespace "" means every namespace."""
        ...

    async def apply(self, changes: Sequence[ObjectChange]) -> None:
        """Commit in one transaction. Raises StoreFull or StoreError; then nothing of it was applied."""
        ...


class Inventory(Protocol):
    """What the store has, for a cloud that takes the node to have something newer."""

    @property
    def inventory_due(self) -> bool: ...

    def inventory(self) -> Sequence[StoredObject]: ...

    async def inventory_told(self) -> None: ...


class TwinStore(Protocol):
    """Device twins, one opaque row a property. The row with property "" holds the device itself."""

    async def load_twins(self) -> dict[DeviceId, dict[str, bytes]]: ...

    async def save_twins(self, device: DeviceId, rows: Mapping[str, bytes | None], *, durable: bool) -> None:
        """Write rows (None deletes). `durable` commits with FULL before returning (desired); otherwise the row joins the next group
        commit and the call returns at once (reported). Raises StoreError when the disk refuses durable ones; they are kept and tried
        again all the same, so that no row overtakes another."""
        ...

    async def delete_device(self, device: DeviceId) -> None: ...

    async def committed(self) -> None:
        """Return when every row given so far, the outbox's too, is on disk. Somebody who waits hurries the group commit. Raises
        StoreError when the disk refuses; the rows are kept and tried again."""
        ...


Composer = Callable[[str, Mapping[str, bytes]], Envelope]
"""(subject, items) → the envelope that carries them; called when the link is ready to send, so that a burst becomes one message."""


class Outbox(Protocol):
    """What waits for the cloud, for every class of message. At most one unconfirmed envelope of a subject is in flight; items put
    meanwhile go with the next one, the newest of each item only (LATEST) or all in order (EVERY)."""

    def put(self, kind: MessageClass, subject: str, item: str, body: bytes) -> None:
        """Queue and return; the row joins the next group commit. Raises StoreFull when the class's bound refuses more."""
        ...

    def discard(self, kind: MessageClass, subject: str) -> None:
        """Forget all there is of a subject, in flight or not: nobody wants it any more."""
        ...

    def compose_with(self, kind: MessageClass, composer: Composer) -> None:
        """The composer of a class; given before the first `put`."""
        ...

    def on_confirmed(self, kind: MessageClass, listener: Callable[[str, Collection[str]], None]) -> None:
        """Call `listener(subject, items)` after the cloud confirmed an envelope of that class; `items` are those it carried."""
        ...


class Departure(NamedTuple):
    """An envelope the outbox wants sent. With `confirmed` the cloud's answer lets the outbox forget it, without it the write alone."""

    envelope: Envelope
    confirmed: bool


class Departures(Protocol):
    """The outbox as the link sees it. All times are the monotonic seconds of one clock."""

    def next(self, now: float) -> Departure | None:
        """The most urgent envelope that may go now; it counts as in flight from here on."""
        ...

    def confirm(self, msg_id: str) -> bool:
        """Forget what the envelope carried; False when it is none of the outbox's."""
        ...

    def recall(self) -> None:
        """The link broke: everything in flight is due again."""
        ...

    def expire(self, now: float) -> float | None:
        """Make due what was sent too long ago without an answer; returns when to ask again, None when nothing is in flight."""
        ...

    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Call `wake` (plain, must not block) whenever something becomes due."""
        ...


class Uplink(Protocol):
    """The link to the cloud as the other services see it."""

    @property
    def connected(self) -> bool: ...

    @property
    def peer_wire(self) -> int:
        """The wire version agreed with the cloud; 0 is KubeEdge's own dialect (base/contract/wireversion.py)."""
        ...

    async def request(self, envelope: Envelope, *, timeout_seconds: float = 60.0) -> Envelope:
        """Send and wait for the message whose parent is this one. Raises LinkError when not connected, ReplyTimeout when none comes."""
        ...

    def post(self, envelope: Envelope) -> None:
        """Send without waiting and without promise: for acknowledgements. Nothing happens when not connected."""
        ...

    def on_connected(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Call `listener` after each connect; it must not wait for the link's own pump."""
        ...


class Bus(Protocol):
    """The MQTT broker as the twins see it."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Queue one publication; order is kept. Never waits."""
        ...

    def redeliver(self) -> None:
        """Have the broker send again what was not acknowledged: for who could not keep it and now can."""
        ...


class PodHost(Protocol):
    """What runs pods here, as far as the Node object tells of it. All of it is at hand: nothing waits."""

    @property
    def runtime(self) -> str:
        """containerRuntimeVersion, such as pinnace://0.1.0 or containerd://1.7.2."""
        ...

    @property
    def problem(self) -> str:
        """Why no pod can start here now, and what to do; "" when all is well."""
        ...

    @property
    def pressures(self) -> frozenset[str]:
        """Which of MemoryPressure, DiskPressure, PIDPressure the node is under."""
        ...

    @property
    def max_pods(self) -> int: ...

    def allocatable(self, capacity: Mapping[str, str]) -> Mapping[str, str]:
        """What of the machine pods may have; quantities."""
        ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` when one of these facts changed; plain, must not block."""
        ...


ChangeListener = Callable[[ObjectChange], Awaitable[None]]
"""Called after a change is durable. The acknowledgement to the cloud goes out after it returned."""

EnvelopeListener = Callable[[Envelope], Awaitable[Iterable[Envelope] | None]]
"""Called with a message of its group; what it returns is sent back."""
