"""A process that writes to a store without end and says what was begun and what was acknowledged, to be killed at any moment.

Arguments: path, seed, first number. Lines: `begin <n> <what>` before a write, `done <n>` when it was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from pinnace.core.base.contract.classes import TWIN_REPORT, USER_DATA
from pinnace.core.base.contract.keys import DeviceId, ResourceKey
from pinnace.core.base.ports import ObjectChange
from pinnace.core.meta.store import Store


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(store: Store, draw: random.Random, number: int) -> None:
    what: dict[str, Any]
    device = DeviceId("default", f"d{draw.randrange(3)}")
    match draw.choice(["objects", "objects", "objects", "twins", "reported", "latest", "every", "snapshot"]):
        case "objects":
            names = draw.sample([f"c{index}" for index in range(12)], draw.randint(1, 5))
            deleted = draw.sample(names, draw.randint(0, len(names) // 2))
            what = {"objects": {name: None if name in deleted else str(number) for name in names}}
            say("begin", number, json.dumps(what))
            await store.apply(
                [
                    ObjectChange("delete", ResourceKey("configmap", "default", name), "", b"")
                    if name in deleted
                    else ObjectChange("update", ResourceKey("configmap", "default", name), str(number), b"x" * draw.randrange(9000))
                    for name in names
                ]
            )
        case "twins" | "reported" as kind:
            names = draw.sample(["red", "green", "yellow"], draw.randint(1, 3))
            say("begin", number, json.dumps({"twins": [device.name, {name: number for name in names}]}))
            await store.save_twins(device, {name: b"%d" % number for name in names}, durable=kind == "twins")
            if kind == "reported":
                await store.committed()
        case "latest":
            item = draw.choice(["red", "green"])
            say("begin", number, json.dumps({"latest": [device.name, item]}))
            store.outbox.put(TWIN_REPORT, device.name, item, b"%d" % number)
            await store.committed()
        case "every":
            say("begin", number, json.dumps({"every": str(number)}))
            store.outbox.put(USER_DATA, str(number), "topic", b"%d" % number)
            await store.committed()
        case _:
            await store._writer.call(store._database.snapshot)
            return
    say("done", number)


async def main() -> None:
    path, seed, number = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    async with Store(path, cache_bytes=40_000) as store:
        while True:
            number += 1
            await write(store, draw, number)


asyncio.run(main())
