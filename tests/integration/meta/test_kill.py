"""kill -9 at any moment: after reopening, everything acknowledged is there, and a transaction is there whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.contract.keys import DeviceId
from pinnace.core.base.observe.health import Health
from pinnace.core.meta.store import Store

CHILD = Path(__file__).with_name("writing_child.py")
RUNS = 500 if os.environ.get("PINNACE_SOAK") else 20
LIVES = 2


class Expected:
    """What was acknowledged (`settled`), and the one write that was begun and perhaps done (`open`)."""

    def __init__(self) -> None:
        self.objects: dict[str, str | None] = {}
        self.twins: dict[DeviceId, dict[str, int]] = {}
        self.latest: dict[tuple[str, str], int] = {}
        self.every: set[str] = set()
        self.number = 0
        self.open: dict[str, Any] | None = None

    def read(self, line: str) -> None:
        word, number, *rest = line.split(" ", 2)
        if word == "begin":
            assert self.open is None
            self.number, self.open = int(number), json.loads(rest[0])
        else:
            assert int(number) == self.number
            self.settle()

    def settle(self) -> None:
        match self.open:
            case {"objects": objects}:
                self.objects.update(objects)
            case {"twins": [device, properties]}:
                self.twins.setdefault(DeviceId("default", device), {}).update(properties)
            case {"latest": [device, item]}:
                self.latest[device, item] = self.number
            case {"every": name}:
                self.every.add(name)
            case _:
                assert self.open is None
        self.open = None

    def state(self) -> tuple[object, ...]:
        return (
            {name: version for name, version in self.objects.items() if version is not None},
            {device: dict(properties) for device, properties in self.twins.items()},
            dict(self.latest),
            set(self.every),
        )


async def found(path: Path) -> tuple[object, ...]:
    health = Health()
    async with Store(path, health=health) as store:
        objects = {each.key.name: each.version for each in store.list("configmap")}
        twins = {device: {name: int(body) for name, body in rows.items()} for device, rows in (await store.load_twins()).items()}
        waiting = len(store.outbox)
    with closing(sqlite3.connect(path)) as connection:
        outbox = connection.execute("SELECT class, subject, item, body FROM outbox").fetchall()
    assert waiting == len(outbox)
    assert health.problems == {}
    latest = {(subject, item): int(body) for name, subject, item, body in outbox if name == "twin-report"}
    every = [subject for name, subject, _, _ in outbox if name == "user-data"]
    assert len(every) == len(set(every))
    return objects, twins, latest, set(every)


async def live(path: Path, seed: int, expected: Expected, acknowledged: int) -> None:
    """One life of the child, ended when so many writes were acknowledged."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(path), str(seed), str(expected.number), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    seen = 0
    async with asyncio.timeout(60):
        while line := (await child.stdout.readline()).decode():
            expected.read(line.rstrip("\n"))
            seen += line.startswith("done")
            if seen == acknowledged:
                break
        child.send_signal(signal.SIGKILL)
        for rest in (await child.stdout.read()).decode().splitlines(keepends=True):
            if rest.endswith("\n"):
                expected.read(rest.rstrip("\n"))
        assert await child.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
async def test_everything_acknowledged_survives(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "edge.db"
    expected = Expected()
    draw = random.Random(seed)
    for life in range(LIVES):
        await live(path, seed * LIVES + life, expected, draw.randint(1, 120))
        without = expected.state()
        expected.settle()
        there = await found(path)
        if there == without:
            continue_from = without
        else:
            assert there == expected.state(), "what was begun is there whole or not at all"
            continue_from = there
        objects, twins, latest, every = continue_from
        assert isinstance(objects, dict)
        assert isinstance(twins, dict)
        assert isinstance(latest, dict)
        assert isinstance(every, set)
        expected.objects, expected.twins, expected.latest, expected.every = {**objects}, twins, latest, every
