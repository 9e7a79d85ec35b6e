"""The edge as a mapper meets it on a real broker: one device's twins, which can fall silent or refuse when told.

Absent here, as a mapper never sees it: the cloud and the store. Topics and bodies: docs/protocol.md, MQTT."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any

from pinnace.core.base.aio.backoff import Backoff
from pinnace.mappers.sdk.connection import Broker, Connection, Publication


class FakeEdge:
    """Answers for the device under `identity` (a name, or namespace/name). Use it as an asynchronous context."""

    def __init__(self, port: int, identity: str, desired: dict[str, str]) -> None:
        self.desired = dict(desired)
        self.reported: dict[str, str] = {}
        self.reports: list[dict[str, str]] = []
        self.states: list[str] = []
        self.answers = True
        self.refuse_next = 0
        self.seen = 0
        """Reports that arrived, answered or not."""
        self._identity = identity
        self._probe = f"probe/{secrets.token_hex(4)}"
        self._changed = asyncio.Condition()
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = Connection(
            Broker(port=port), name="edge", on_connected=self._connected, on_message=self._message, backoff=Backoff(0.02, 0.1)
        )

    async def __aenter__(self) -> FakeEdge:
        self._run = asyncio.create_task(self._connection.run())
        await self.connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        await asyncio.gather(self._run, *self._tasks, return_exceptions=True)

    async def connected(self) -> None:
        """Return once the broker forwards what mappers publish."""
        async with asyncio.timeout(20):
            await self._ready.wait()

    def lost(self) -> None:
        """The test takes the broker away: `connected` waits for the next connection."""
        self._ready.clear()

    def desire(self, **values: str) -> None:
        self.desired.update(values)
        if self._ready.is_set():
            self._publish(
                "twin/update/document",
                {"event_id": "", "timestamp": 1, "twin": {name: {"last": None, "current": self._twin(name)} for name in values}},
            )
            self._delta()

    def raw(self, suffix: str, payload: bytes) -> None:
        """Publish anything below the device."""
        self._connection.publish(Publication(f"$hw/events/device/{self._identity}/{suffix}", payload))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(condition)

    async def shows(self, **values: str) -> None:
        """Wait until these values are reported."""
        await self.until(lambda: values.items() <= self.reported.items())

    def _connected(self) -> None:
        self._connection.subscribe(
            [f"$hw/events/device/{self._identity}/{each}" for each in ("twin/update", "twin/get", "state/update")] + [self._probe]
        )
        self._connection.publish(Publication(self._probe, b""))

    def _message(self, topic: str, payload: bytes) -> None:
        if topic == self._probe:
            self._ready.set()
            return
        body = json.loads(payload)
        if topic.endswith("/state/update"):
            self.states.append(body["state"])
        elif topic.endswith("/twin/get"):
            if self.answers:
                self._publish("twin/get/result", {"event_id": body["event_id"], "timestamp": 1, "twin": self._twins()})
        else:
            self._update(body)
        task = asyncio.ensure_future(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _update(self, body: dict[str, Any]) -> None:
        self.seen += 1
        if not self.answers:
            return
        if self.refuse_next:
            self._publish(
                "twin/update/result", {"event_id": body["event_id"], "timestamp": 1, "code": self.refuse_next, "reason": "told to"}
            )
            self.refuse_next = 0
            return
        values = {name: each["actual"]["value"] for name, each in body["twin"].items()}
        self.reports.append(values)
        self.reported.update(values)
        self._publish(
            "twin/update/result", {"event_id": body["event_id"], "timestamp": 1, "twin": {name: self._twin(name) for name in values}}
        )
        self._delta()

    def _delta(self) -> None:
        delta = {name: value for name, value in self.desired.items() if value != self.reported.get(name)}
        if delta:
            self._publish("twin/update/delta", {"event_id": "", "timestamp": 1, "twin": self._twins(), "delta": delta})

    def _twins(self) -> dict[str, Any]:
        return {name: self._twin(name) for name in sorted({*self.desired, *self.reported})}

    def _twin(self, name: str) -> dict[str, Any]:
        twin: dict[str, Any] = {"optional": False, "metadata": {"type": "string"}}
        if name in self.desired:
            twin["expected"] = {"value": self.desired[name], "metadata": {"timestamp": 1}}
        if name in self.reported:
            twin["actual"] = {"value": self.reported[name], "metadata": {"timestamp": 1}}
        return twin

    def _publish(self, suffix: str, body: dict[str, Any]) -> None:
        self.raw(suffix, json.dumps(body).encode())
