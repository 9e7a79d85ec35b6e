"""`deviceProfile.json` as KubeEdge 1.1 writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import yaml

from pinnace.cloud.controllers.profiles import profile
from pinnace.cloud.ports import Object

SAMPLES = Path(__file__).resolve().parents[4] / "build" / "samples"


def sample(name: str, part: str) -> Object:
    loaded: Object = yaml.safe_load((SAMPLES / name / f"{part}.yaml").read_text())
    return loaded


def test_a_device_without_a_protocol() -> None:
    """The example of KubeEdge 1.1's led demo, to the byte."""
    properties = [
        {"name": "power-status", "description": "Indicates whether the led light is ON/OFF",
         "type": {"string": {"accessMode": "ReadWrite", "defaultValue": "OFF"}}},
        {"name": "gpio-pin-number", "description": "Indicates the GPIO pin to which LED is connected",
         "type": {"int": {"accessMode": "ReadOnly", "defaultValue": 18}}},
    ]  # fmt: skip
    model = {"metadata": {"name": "led-light"}, "spec": {"properties": properties}}
    device = {"metadata": {"name": "led-light-instance-01"}, "spec": {"deviceModelRef": {"name": "led-light"}}}
    assert orjson.dumps(profile([(device, model)])).decode() == (
        '{"deviceInstances":[{"id":"led-light-instance-01","name":"led-light-instance-01","model":"led-light"}],'
        '"deviceModels":[{"name":"led-light","properties":[{"name":"power-status","dataType":"string",'
        '"description":"Indicates whether the led light is ON/OFF","accessMode":"ReadWrite","defaultValue":"OFF"},'
        '{"name":"gpio-pin-number","dataType":"int","description":"Indicates the GPIO pin to which LED is connected",'
        '"accessMode":"ReadOnly","defaultValue":18}]}],"protocols":[{"protocol_config":null}]}'
    )


def test_two_devices_of_one_model_share_it() -> None:
    model, device = sample("traffic-light", "model"), sample("traffic-light", "instance")
    another = {**device, "metadata": {"name": "two"}}
    made = profile([(device, model), (another, model)])
    assert [each["id"] for each in made["deviceInstances"]] == ["traffic-light-instance-01", "two"]
    assert len(made["deviceModels"]) == 1
    assert made["protocols"] == [{"protocol_config": None}] * 2
    pins = {each["name"]: each["defaultValue"] for each in made["deviceModels"][0]["properties"] if each["dataType"] == "int"}
    assert pins == {"red-pin-number": 25, "green-pin-number": 23, "yellow-pin-number": 24}


def test_protocols_and_visitors_leave_zeros_out() -> None:
    visitors: list[Any] = [
        {"propertyName": "t", "modbus": {"register": "HoldingRegister", "offset": 0, "limit": 1, "scale": 0.1, "isSwap": False}},
        {
            "propertyName": "b",
            "bluetooth": {"characteristicUUID": "u", "dataWrite": {"ON": [1], "OFF": [0]}, "dataConverter": {"startIndex": 0}},
        },
        {"propertyName": "n"},
    ]
    properties = [{"name": "t", "type": {"int": {"accessMode": "ReadOnly", "minimum": 0, "maximum": 9, "unit": "C"}}}, {"name": "b"}]
    model = {"metadata": {"name": "m"}, "spec": {"properties": properties, "propertyVisitors": visitors}}
    device = {"metadata": {"name": "d"}, "spec": {"protocol": {"modbus": {"tcp": {"ip": "10.0.0.9", "port": 502, "slaveID": "1"}}}}}
    made = profile([(device, model)])
    assert made["protocols"] == [
        {"name": "modbus-tcp-d", "protocol": "modbus-tcp", "protocol_config": {"ip": "10.0.0.9", "port": 502, "slaveID": "1"}}
    ]
    assert made["deviceInstances"][0]["protocol"] == "modbus-tcp-d"
    assert made["propertyVisitors"] == [
        {"name": "t", "propertyName": "t", "modelName": "m", "protocol": "modbus",
         "visitorConfig": {"register": "HoldingRegister", "limit": 1, "scale": 0.1}},
        {"name": "b", "propertyName": "b", "modelName": "m", "protocol": "bluetooth",
         "visitorConfig": {"characteristicUUID": "u", "dataWrite": {"ON": "AQ==", "OFF": "AA=="}}},
        {"name": "n", "propertyName": "n", "modelName": "m", "visitorConfig": None},
    ]  # fmt: skip
    assert made["deviceModels"][0]["properties"] == [
        {"name": "t", "dataType": "int", "accessMode": "ReadOnly", "defaultValue": 0, "maximum": 9, "unit": "C"},
        {"name": "b", "dataType": "string", "accessMode": "", "defaultValue": ""},
    ]


def test_of_nothing_there_is_no_profile() -> None:
    assert profile([]) == {}
