"""The frozen edge in the whole system; `make freeze` runs this on the tree it has just made."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from frozen.shapes import PROGRAM, TREE
from rig import nodepods as pods
from rig.kube import DEVICES
from rig.mqtt import MqttClient
from rig.podplaces import pod_places
from rig.system import DEVICE, NODE, System, eventually, reported, set_desired

TOPIC = f"$hw/events/device/default/{DEVICE}/twin/update"


@pytest.mark.mosquitto
async def test_a_desired_value_arrives_and_its_report_returns(tmp_path: Path) -> None:
    assert PROGRAM.exists(), "run `make freeze`"
    system = System(tmp_path, edge_program=[str(PROGRAM)])
    wanted: list[bytes] = []
    async with system.running() as kube:
        async with MqttClient(
            system.mqtt_port, "mapper", TOPIC + "/delta", listener=lambda _, payload, __: wanted.append(payload)
        ) as mapper:
            await set_desired(kube, {"red": "ON"})

            async def seen() -> bool:
                return any(b'"red":"ON"' in each for each in wanted)

            await eventually(seen, bool, system)
            mapper.publish(TOPIC, b'{"event_id":"","timestamp":1,"twin":{"red":{"actual":{"value":"ON"}}}}', qos=1)
            await eventually(lambda: kube.get(f"{DEVICES}/{DEVICE}"), lambda device: reported(device).get("red") == "ON", system)
        node = await kube.get(f"/api/v1/nodes/{NODE}")
        assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"] == "True"


@pytest.mark.containers
@pytest.mark.root
@pytest.mark.mosquitto
async def test_a_pod_runs_with_what_was_brought_along(tmp_path: Path) -> None:
    """No crun is on PATH; the pod's supervisor was told of the bundled one, and its log is read."""
    with pod_places() as places:
        places.offer()
        system = System(tmp_path / "s", edge_program=["env", "PATH=/nowhere", str(PROGRAM)], pods=places)
        async with system.running() as kube:
            await pods.create(kube, pods.pod("speaker", containers=[pods.container(command=["sh", "-c", "echo hello; sleep 1000"])]))
            await pods.until_running(kube, system, "speaker")
            answer = await eventually(lambda: kube.ask("GET", f"{pods.PODS}/speaker/log"), lambda answer: answer[0] == 200, system)
            assert answer[1] == "hello\n"
            supervisors = [
                words for words in command_lines() if words[0].endswith("pinnace-shim") and str(places.folder / "run/oci") in words
            ]
            assert supervisors
            assert {words[words.index("--crun") + 1] for words in supervisors} == {str(TREE / "lib/bin/crun")}


def command_lines() -> list[list[str]]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(each.read_text(errors="replace").split("\0"))
    return found
