"""`pinnace footprint` beside a running system: what it shows, what the agent says of itself, a short recording."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from rig import nodepods as pods
from rig.podplaces import pod_places
from rig.processes import Child, pinnace
from rig.system import DEVICE, System, eventually

pytestmark = pytest.mark.mosquitto


async def footprint(*arguments: str) -> str:
    done = await asyncio.to_thread(subprocess.run, pinnace("footprint", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_shows_every_process_of_a_node_and_what_it_uses(tmp_path: Path) -> None:
    system = System(tmp_path)
    arguments = ["--mqtturl", f"tcp://127.0.0.1:{system.mqtt_port}", "--port", "simulated", "--pins", "red=25"]
    mapper = Child("mapper", pinnace("mapper", "gpio", *arguments), tmp_path / "mapper.log")
    config = ["--config", str(tmp_path / "edgecore.yaml")]
    async with system.running():
        try:
            await mapper.start()
            names = {
                system.broker: ("mosquitto", "broker"),
                system.api: ("pinnace apiserver", "cloud"),
                system.cloud: ("pinnace cloudcore", "cloud"),
                system.edge: ("pinnace edgecore", "agent"),
                mapper: ("pinnace mapper gpio", "mappers"),
            }
            ours = {child.pid: name for child, name in names.items()}
            found = orjson.loads(await footprint("--json", *config))
            entries = {each["pid"]: each for each in found["processes"] if each["pid"] in ours}
            assert {pid: (each["name"], each["group"]) for pid, each in entries.items()} == ours
            assert all(1 << 20 < each["pss_bytes"] <= each["rss_bytes"] for each in entries.values())
            assert found["pss_bytes"] == sum(each["pss_bytes"] for each in found["processes"])
            assert all(each["pss_bytes"] == sum(part["pss_bytes"] for part in each["parts"].values()) for each in entries.values())
            assert {"heap", "anonymous", "tls", "hot paths", "extensions", "interpreter"} <= set(entries[system.edge.pid]["parts"])
            assert "uvloop.loop" in {each["name"] for each in entries[system.edge.pid]["mappings"]}
            check_agent(found["agent"])
            hub = next(each for each in found["wire"] if each["peer"] == f"127.0.0.1:{system.hub_port}")
            assert 0 < hub["sent_bytes"] < hub["wire_bytes"]
            assert f"127.0.0.1:{system.mqtt_port}" not in {each["peer"] for each in found["wire"]}

            picture = tmp_path / "node.svg"
            header, *rows = (await footprint("--parts", "--picture", str(picture), *config)).splitlines()
            assert header.split() == ["PID", "PSS", "MB", "RSS", "MB", "USS", "MB", "GROUP", "PROCESS"]
            shown = {
                int(match[1]): (match[3], match[2])
                for row in rows
                if (match := re.fullmatch(r" *(\d+)(?: +\d+\.\d){3}  (\S+) +(\S.*)", row))
            }
            assert ours.items() <= shown.items()
            assert any(re.fullmatch(r" *sum(?: +\d+\.\d){3}", row) for row in rows)
            assert any(f"default/{DEVICE}" in row for row in rows)
            assert picture.read_text().startswith("<svg")
        finally:
            await mapper.kill()


def check_agent(agent: dict[str, Any]) -> None:
    """The traffic light is there, and nothing waits for long."""
    assert agent["cache"]["kinds"]["device"]["objects"] == 1
    assert 0 < agent["cache"]["bytes"] <= agent["cache"]["limit_bytes"]
    (device,) = agent["devices"]
    assert device["name"] == f"default/{DEVICE}"
    assert device["twins"] == 3
    assert device["object_bytes"] > 100 < device["bytes"]
    assert agent["link"]["connected"]
    assert agent["pods"] == []
    assert "heap" not in agent  # nobody traces


async def test_a_profiling_agent_tells_its_heap_by_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONTRACEMALLOC", "1")
    system = System(tmp_path)
    monkeypatch.delenv("PYTHONTRACEMALLOC")
    async with system.running():
        shown = await footprint("--config", str(tmp_path / "edgecore.yaml"))
    assert "Python's heap" in shown
    assert re.search(r"^ *\d+\.\d +\d+  importlib \(code of modules\)$", shown, re.MULTILINE)
    assert re.search(r"^ *\d+\.\d +\d+  pinnace\.core\.", shown, re.MULTILINE)


@pytest.mark.containers
@pytest.mark.root
async def test_pods_are_counted_apart_and_a_recording_is_written(tmp_path: Path) -> None:
    with pod_places() as places:
        places.offer()
        system = System(tmp_path / "s", pods=places)
        async with system.running() as kube:
            await pods.create(kube, pods.pod("sleeper", containers=[pods.container(command=["sleep", "86400"])]))
            await pods.until_running(kube, system, "sleeper")
            config = ["--config", str(system.folder / "edgecore.yaml")]

            async def look() -> Any:
                return orjson.loads(await footprint("--json", *config))

            found = await eventually(look, lambda each: each["agent"] and each["agent"]["pods"], system)
            (pod,) = found["agent"]["pods"]
            assert (pod["name"], pod["containers"]) == ("default/sleeper", 1)
            assert pod["object_bytes"] > 500
            processes = [each for each in found["processes"] if each.get("pod") == pod["uid"]]
            assert [each["name"] for each in processes] == ["sleep"]
            assert found["pods"][pod["uid"]]["pss_bytes"] == processes[0]["pss_bytes"]
            own = [each["pss_bytes"] for each in found["processes"] if each["group"] not in ("pods", "cloud", "commands")]
            assert found["node_pss_bytes"] == sum(own)

            target = tmp_path / "r.json"
            shown = await footprint(
                "--record", str(target), "--warm-up", "0", "--seconds", "2", "--runs", "2", "--interval", "0.5", *config
            )
            assert "the node" in shown
            record = orjson.loads(target.read_bytes())
            assert len(record["runs"]) == 2
            assert all(each["samples"] == 5 for each in record["runs"])
            assert {"agent/pinnace edgecore", f"pods/{pod['uid']}"} <= set(record["summary"]["processes"])
            assert record["summary"]["per_idle_day"]["wire_bytes"]["max"] >= 0
            assert target.with_suffix(".svg").read_text().startswith("<svg")
            assert "node PSS, median" in await footprint("--diff", str(target), str(target), "--tolerance", "1")
