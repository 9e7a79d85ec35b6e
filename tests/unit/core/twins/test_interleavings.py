"""Any order of desired values, reports, crashes and connections ends with what was wanted last and reported last."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.core.base.errors import StoreError
from pinnace.ext.records import Envelope

from .conftest import LAMP, SHORT, Rig, device_object

PROPERTIES = st.sampled_from(["red", "green"])
VALUES = st.sampled_from(["ON", "OFF", "DIM"])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.dictionaries(PROPERTIES, VALUES)),
        st.tuples(st.just("repeat"), st.integers(1, 5)),
        st.tuples(st.just("member"), st.integers(0, 2)),
        st.tuples(st.just("report"), st.dictionaries(PROPERTIES, VALUES, min_size=1), st.booleans()),
        st.tuples(st.just("unacknowledged"), st.dictionaries(PROPERTIES, VALUES, min_size=1)),
        st.tuples(st.sampled_from(["crash", "restart", "send", "confirm", "full disk", "garbage", "commit"])),
    ),
    max_size=14,
)


class World:
    """The cloud and the mapper around a node. The cloud repeats an object until it is acknowledged."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.version = 0
        self.history: list[dict[str, Any]] = []
        self.acknowledged = True
        self.reported: dict[str, str] = {}
        self.in_flight: list[Envelope] = []
        self.shown: dict[str, tuple[int, str]] = {}
        """What the cloud shows: property → (edge version, value)."""
        self.seen: dict[str, int] = {}
        """Property → newest desired version seen on disk."""

    async def run(self, steps: list[Any]) -> None:
        await self.rig.start()
        await self.want({})
        for name, *arguments in steps:
            await getattr(self, name.replace(" ", "_"))(*arguments)
            self.check_versions()
        await self.settle()
        await self.rig.stop()

    async def want(self, values: dict[str, str]) -> None:
        self.version += 1
        self.history.append(device_object(version=self.version, **values))
        await self.push()

    async def push(self) -> None:
        try:
            await self.rig.apply(self.history[-1])
            self.acknowledged = True
        except StoreError:
            self.acknowledged = False

    async def repeat(self, back: int) -> None:
        """An old object arrives once more, late; its store keeps the newest one."""
        old = self.history[max(0, len(self.history) - back)]
        newest = self.rig.objects.stored.copy()
        with contextlib.suppress(StoreError):
            await self.rig.apply(old)
        self.rig.objects.stored = newest

    async def member(self, back: int) -> None:
        old = self.history[max(0, len(self.history) - 1 - back)]
        version = int(old["metadata"]["resourceVersion"])
        twin = {
            each["name"]: {"expected": each["desired"], "optional": False, "expected_version": {"cloud": version, "edge": 0}}
            for each in old["spec"]["properties"]
        }
        await self.rig.cloud("membership", {"added_devices": [{"id": "default/lamp", "name": "lamp", "twin": twin}]})

    async def report(self, values: dict[str, str], is_short: bool) -> None:
        """A report that the mapper sees acknowledged."""
        told = await self.rig.report(values, SHORT if is_short else LAMP)
        assert "code" not in told[0][1]
        self.reported |= values

    async def unacknowledged(self, values: dict[str, str]) -> None:
        """The mapper repeats what was not acknowledged, as its broker does after a crash."""
        body = {"twin": {name: {"actual": {"value": value}} for name, value in values.items()}}
        self.rig.service.message(f"{LAMP}/twin/update", json.dumps(body).encode(), None)
        await asyncio.sleep(0)
        await self.crash()
        await self.report(values, False)

    async def crash(self) -> None:
        await self.rig.crash()
        self.in_flight = []

    async def restart(self) -> None:
        await self.rig.restart()
        self.in_flight = []

    async def send(self) -> None:
        for envelope in self.rig.sent():
            self.show(envelope)
            self.in_flight.append(envelope)

    async def confirm(self) -> None:
        flights, self.in_flight = self.in_flight, []
        for envelope in flights:
            self.rig.outbox.confirm(envelope)

    async def commit(self) -> None:
        self.rig.store.commit()

    async def full_disk(self) -> None:
        self.rig.store.broken = True
        await self.want({"red": "DIM"})
        self.rig.store.broken = False

    async def garbage(self) -> None:
        told = await self.rig.client(f"{LAMP}/twin/update", b'{"twin":{"red":{"actual":{"value":"DIM"}},"green":{"actual":{}}}}')
        assert told[0][1]["code"] == 400

    def show(self, envelope: Envelope) -> None:
        """What the cloud makes of a report: nothing older over something newer."""
        for name, twin in json.loads(envelope.body)["twin"].items():
            version = twin["actual_version"]["edge"]
            if version >= self.shown.get(name, (0, ""))[0]:
                self.shown[name] = (version, twin["actual"]["value"])

    def check_versions(self) -> None:
        """Versions on disk never go back."""
        for rows in self.rig.store.disk.values():
            for name, row in rows.items():
                if name:
                    version = json.loads(row)["expected_version"]["cloud"]
                    assert version >= self.seen.get(name, 0)
                    self.seen[name] = version

    async def settle(self) -> None:
        """The last object is repeated until acknowledged, and what waits is sent."""
        await self.push()
        assert self.acknowledged
        wanted = {each["name"]: each["desired"]["value"] for each in self.history[-1]["spec"]["properties"]}
        for _ in range(2):
            values = await self.rig.values()
            assert {name: desired for name, (desired, _) in values.items() if desired is not None} == wanted
            assert {name: reported for name, (_, reported) in values.items() if reported is not None} == self.reported
            self.rig.service.bus_connected()
            deltas = [content["delta"] for topic, content in self.rig.bus.take() if topic == f"{LAMP}/twin/update/delta"]
            differing = {name: value for name, value in wanted.items() if self.reported.get(name) != value}
            assert deltas == ([differing] if differing else [])
            await self.send()
            assert {name: value for name, (_, value) in self.shown.items()} == self.reported
            await self.confirm()
            await self.crash()


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_agrees_in_the_end(steps: list[Any]) -> None:
    asyncio.run(World().run(steps))
