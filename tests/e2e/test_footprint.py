"""`pinnace footprint` beside a running system."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import orjson
import pytest
from rig.processes import Child, pinnace
from rig.system import System

pytestmark = pytest.mark.mosquitto


async def footprint(*arguments: str) -> str:
    done = await asyncio.to_thread(subprocess.run, pinnace("footprint", *arguments), capture_output=True, text=True, check=True)
    return done.stdout


async def test_shows_every_process_of_a_node_and_what_it_uses(tmp_path: Path) -> None:
    system = System(tmp_path)
    arguments = ["--mqtturl", f"tcp://127.0.0.1:{system.mqtt_port}", "--port", "simulated", "--pins", "red=25"]
    mapper = Child("mapper", pinnace("mapper", "gpio", *arguments), tmp_path / "mapper.log")
    async with system.running():
        try:
            await mapper.start()
            names = {system.broker: "mosquitto", system.api: "pinnace apiserver", system.cloud: "pinnace cloudcore"}
            names |= {system.edge: "pinnace edgecore", mapper: "pinnace mapper gpio"}
            ours = {child.pid: name for child, name in names.items()}
            found = orjson.loads(await footprint("--json"))
            entries = {each["pid"]: each for each in found["processes"] if each["pid"] in ours}
            assert {pid: each["name"] for pid, each in entries.items()} == ours
            assert all(1 << 20 < each["pss_bytes"] <= each["rss_bytes"] for each in entries.values())
            assert found["pss_bytes"] == sum(each["pss_bytes"] for each in found["processes"])

            header, *rows, total = (await footprint()).splitlines()
            assert header.split() == ["PID", "PSS", "MB", "RSS", "MB", "USS", "MB", "PROCESS"]
            shown = {int(match[1]): match[2] for row in rows if (match := re.fullmatch(r" *(\d+)(?: +\d+\.\d){3}  (.*)", row))}
            assert len(shown) == len(rows)
            assert ours.items() <= shown.items()
            assert re.fullmatch(r" *sum +\d+\.\d", total)
        finally:
            await mapper.kill()
