"""Damaged requests at the twins: `TwinService.message` and both builds of the twin diff.

python tests/fuzz/fuzz_twin.py --runs 50000 [--seed N]

Nothing may raise; every request on a device's or node's topic is answered; what is answered with a code stores and reports nothing; the
builds agree, and what they write is JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fakes.edgeports import FakeBus, FakeObjects, FakeOutbox, FakeTwinStore, FakeUplink
from fuzz.mutations import builds, main, mutated

from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.twins.service import TwinService
from pinnace.ext.errors import TwinError

BUILDS = builds("twindiff")
SAMPLES = [
    b'{"event_id":"e","timestamp":1,"twin":{"red":{"actual":{"value":"ON","metadata":{"timestamp":1}},"metadata":{"type":"Updated"}}}}',
    b'{"twin":{"red":{"expected":{"value":"OFF"},"actual":{"value":"ON"}},"level":{"actual":{"value":"7"},"metadata":{"type":"int"}}}}',
    b'{"twin":{"red":null,"own":null,"other":{"optional":false,"metadata":{"type":"deleted"}}}}',
    b'{"TWIN":{"a\\u0062":{"Expected":{"Value":"\\u0031"},"expected_version":{"cloud":7,"edge":0},"actual_version":{"cloud":0,"edge":9}}}}',
    b'{"actual":{"value":"1","metadata":{"timestamp":1}},"optional":true,"metadata":{"type":"string"},"overridden":"x"}',
    b'{"event_id":"s","state":"online"}',
    b'{"event_id":"g"}',
]
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"-", b"0", b"1e9", b"1.5", b"9223372036854775808", b"\\ud800",
    b"\\u0000", b"\x00", b"\xff", b"\xe2\x80\xa8", b" ", b"<", b"x" * 600, b'"twin":{', b'"twin":null,', b'"actual":{"value":"\xc3\xa9"}',
    b'"actual":{},', b'"metadata":{"type":"boolean"},', b'"optional":false,', b"[" * 300, b'{"a":' * 300,
]  # fmt: skip
VERBS = ("twin/update", "twin/update", "twin/update", "twin/get", "twin/cloud_updated", "state/update")
TOPICS = (
    *(f"$hw/events/device/{device}/{verb}" for device in ("default/lamp", "lamp", "none", "a/none") for verb in VERBS),
    "$hw/events/node/x/membership/get",
)
RESOURCES = ("membership", "membership/detail", "device/default/lamp/twin/cloud_updated", "twin", "x")
LAMP = ResourceKey("device", "default", "lamp")
DEVICE = {
    "kind": "Device",
    "metadata": {"name": "lamp", "namespace": "default", "uid": "u", "resourceVersion": "3"},
    "spec": {
        "properties": [
            {"name": "red", "desired": {"value": "ON"}},
            {"name": "level", "desired": {"value": "1", "metadata": {"type": "int"}}},
        ]
    },
}
OBJECTS = [json.dumps(DEVICE).encode()]
MEMBERSHIP = [b'{"event_id":"m","added_devices":[{"id":"default/lamp","name":"lamp","twin":{"red":{"expected":{"value":"ON"}}}}]}']


def compare(bodies: list[bytes]) -> None:
    """The same bodies to every build, as updates, as what the cloud wants and as stored rows."""
    found = []
    for build in BUILDS:
        twins = build.DeviceTwins()
        told: list[Any] = [twins.load(dict(zip("abcd", bodies, strict=False)))]
        for now, body in enumerate(bodies):
            for apply in (twins.apply_update, twins.apply_desired):
                try:
                    outcome = apply(body, now)
                    told.append([getattr(outcome, name) for name in outcome.__slots__])
                except TwinError as error:
                    told.append([str(error), error.code, error.event_id])
            for members in (twins.members(), twins.delta()):
                json.loads(b"{" + members + b"}")
                told.append(members)
        found.append(told)
    assert all(each == found[0] for each in found)


async def attack(source: random.Random, bodies: list[bytes]) -> None:
    """Bodies from clients, damaged messages of the cloud between them."""
    store, bus = FakeTwinStore(), FakeBus()
    outbox = FakeOutbox(store)
    service = TwinService(NodeName("n"), store=store, objects=FakeObjects(), outbox=outbox, uplink=FakeUplink(), bus=bus)
    await service.start()
    running = asyncio.create_task(service.run())
    await service.changed(ObjectChange("update", LAMP, "3", OBJECTS[0]))
    for body in bodies:
        if source.random() < 0.3:
            await service.changed(ObjectChange("update", LAMP, "4", mutated(source, OBJECTS, TOKENS)))
            content = mutated(source, MEMBERSHIP + SAMPLES, TOKENS)
            await service.handle(new("devicecontroller", "twin", "update", source.choice(RESOURCES), content))
        store.commit()
        topic = source.choice(TOPICS)
        before, puts = {device: dict(rows) for device, rows in store.disk.items()}, len(outbox.puts)
        bus.published.clear()
        done = asyncio.Event()
        service.message(topic, body, done.set)
        async with asyncio.timeout(20):
            await done.wait()
        told = [json.loads(text) for _, text in bus.published]
        assert told or topic.endswith("cloud_updated"), f"{topic} was not answered: {body!r}"
        codes = {content["code"] for content in told if "code" in content}
        assert codes <= {400, 404}, f"{topic} was answered with {codes}: {body!r}"
        if codes:
            assert len(outbox.puts) == puts, f"{topic} was refused, yet reported: {body!r}"
            assert store.disk == before, f"{topic} was refused, yet stored: {body!r}"
        assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def case(source: random.Random) -> None:
    bodies = [mutated(source, SAMPLES, TOKENS) for _ in range(4)]
    compare(bodies)
    logging.disable(logging.WARNING)
    try:
        asyncio.run(attack(source, bodies))
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main(__doc__, case))
