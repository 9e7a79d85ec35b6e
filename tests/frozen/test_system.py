"""The frozen edge in the whole system; `make freeze` runs this on the tree it has just made."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import nodepods as pods
from rig.kube import DEVICES
from rig.mqtt import MqttClient
from rig.podplaces import pod_places
from rig.system import DEVICE, NODE, ROOT, System, eventually, reported, set_desired

PROGRAM = ROOT / "dist" / "pinnace" / "pinnace"
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
async def test_a_pod_runs_and_its_log_is_read(tmp_path: Path) -> None:
    with pod_places() as places:
        places.offer()
        system = System(tmp_path / "s", edge_program=[str(PROGRAM)], pods=places)
        async with system.running() as kube:
            await pods.create(kube, pods.pod("speaker", containers=[pods.container(command=["sh", "-c", "echo hello; sleep 1000"])]))
            await pods.until_running(kube, system, "speaker")
            answer = await eventually(lambda: kube.ask("GET", f"{pods.PODS}/speaker/log"), lambda answer: answer[0] == 200, system)
            assert answer[1] == "hello\n"
