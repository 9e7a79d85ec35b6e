"""`pinnace doctor` on a node that runs, and on the same node when things go wrong, one after the other."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from rig.processes import pinnace
from rig.system import System, eventually

pytestmark = pytest.mark.mosquitto


async def doctor(system: System, *arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and the findings by matter."""
    command = pinnace("doctor", "--json", "--config", str(system.folder / "edgecore.yaml"), *arguments)
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for each in orjson.loads(done.stdout)["findings"]:
        found.setdefault(each["matter"], []).append(each)
    return done.returncode, found


def texts(found: dict[str, list[dict[str, Any]]], matter: str, level: str) -> list[str]:
    return [each["text"] for each in found.get(matter, ()) if each["level"] == level]


async def test_a_node_is_examined_from_well_to_broken(tmp_path: Path) -> None:
    system = System(tmp_path)
    async with system.running():
        _, found = await doctor(system)
        assert len(texts(found, "cloud", "ok")) == 2, found["cloud"]
        assert len(found["certificate"]) == 1
        assert "system:node:" in found["certificate"][0]["text"]
        assert found["certificate"][0]["level"] == "ok"
        assert f"{system.mqtt_port} (the MQTT broker of this machine) is served by mosquitto" in texts(found, "ports", "ok")
        assert texts(found, "agent", "ok") == ["the edge runs and is well"]

        await system.cloud.kill()

        async def unwell() -> bool:
            _, found = await doctor(system)
            return len(texts(found, "cloud", "error")) == 2 and any("cloud:" in each for each in texts(found, "agent", "error"))

        await eventually(unwell, bool, system)
        code, found = await doctor(system, "--offline")
        assert code == 2
        assert "cloud" not in found

        await system.edge.kill()
        await system.broker.kill()
        key, authority = tmp_path / "certs/server.key", tmp_path / "certs/rootCA.crt"
        key.chmod(0o644)
        await asyncio.to_thread(make_authority, authority)
        await system.cloud.start()
        code, found = await doctor(system)
        assert code == 2
        assert any("nobody listens" in each for each in texts(found, "ports", "error"))
        wrong = texts(found, "certificate", "error")
        assert any("mode 644" in each for each in wrong)
        assert any("did not sign" in each for each in wrong)
        assert all("do not accept each other's certificates" in each for each in texts(found, "cloud", "error"))
        assert all(each["remedy"] for each in found["certificate"] + found["cloud"] if each["level"] == "error")


def make_authority(path: Path) -> None:
    """Somebody else's."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=other"]
    subprocess.run([*command, "-keyout", "/dev/null", "-out", str(path)], check=True, capture_output=True)


def test_a_configuration_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    config = tmp_path / "edgecore.yaml"
    config.write_text("modules:\n  eventBus:\n    mqttMode: 7\n")
    done = subprocess.run(pinnace("doctor", "--offline", "--config", str(config)), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{config}:3: modules.eventBus.mqttMode" in done.stdout
    assert "kernel" in done.stdout
