"""Device models from every form a mapper may be given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.sdk.profile import Model, ModelProperty, find

V1BETA1 = """
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: light}
spec:
  properties:
  - {name: red, type: STRING, accessMode: ReadWrite, visitors: {protocolName: gpio, configData: {pin: 33}}}
"""
V1ALPHA1 = """
kind: Device
---
kind: DeviceModel
metadata: {name: light}
spec:
  properties:
  - {name: red, type: {string: {accessMode: ReadWrite, defaultValue: 'OFF'}}}
  - {name: n, type: {int: {accessMode: ReadOnly, defaultValue: 3}}}
"""
MOUNTED = json.dumps(
    {
        "deviceInstances": [{"id": "x", "name": "x", "model": "light"}],
        "deviceModels": [{"name": "light", "properties": [{"name": "n", "dataType": "int", "accessMode": "ReadOnly", "defaultValue": 3}]}],
        "protocols": [{"protocol_config": None}],
    }
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("m.yaml", V1BETA1, [ModelProperty("red", "string", True, None, {"pin": 33})]),
        ("m.yaml", V1ALPHA1, [ModelProperty("red", "string", True, "OFF"), ModelProperty("n", "int", False, 3)]),
        ("deviceProfile.json", MOUNTED, [ModelProperty("n", "int", False, 3)]),
    ],
)
def test_a_model_is_found(tmp_path: Path, name: str, text: str, expected: list[ModelProperty]) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert find("light", path) == Model("light", tuple(expected))
    with pytest.raises(ConfigError, match=r"holds no device model 'other' \(it holds: light\)"):
        find("other", path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.yaml", b"{"), ("m.json", b"{"), ("m.yaml", b"\xff\xfe\x00"), ("m.yaml", b"kind: DeviceModel"),
        ("m.json", b'{"deviceModels": [7]}'), ("m.yaml", b"{kind: DeviceModel, metadata: {name: l}, spec: {properties: [3]}}"),
        ("m.yaml", b"{kind: DeviceModel, metadata: {name: l}, spec: [1]}"), ("m.json", b'{"deviceModels": {"a": 1}}'),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        find("light", path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        find("light", tmp_path / "none.yaml")
