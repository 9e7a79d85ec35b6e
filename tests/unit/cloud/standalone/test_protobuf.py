"""Protobuf bodies as kubectl sent them to a real API server, and bodies that are none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cloud.standalone import protobuf
from pinnace.cloud.standalone.status import ApiError

VECTORS = Path(__file__).parents[3] / "vectors" / "kube-apiserver" / "protobuf.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text().splitlines()]


def meaningful(value: Any) -> Any:
    """Without what Go writes although it says nothing."""
    if isinstance(value, dict):
        kept = {key: meaningful(each) for key, each in value.items()}
        dropped = {
            key
            for key, each in kept.items()
            if each is None or (key == "status" and each == {}) or (each in (0, False) and key != "replicas")
        }
        return {key: each for key, each in kept.items() if key not in dropped}
    return [meaningful(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_bodies_of_kubectl(case: dict[str, Any]) -> None:
    assert meaningful(protobuf.decode(base64.b64decode(case["protobuf_b64"]))) == meaningful(case["decoded"])


def length(number: int, payload: bytes) -> bytes:
    assert len(payload) < 128
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])) + bytes([len(payload)]) + payload


def body(kind: str, message: bytes, api_version: str = "v1") -> bytes:
    return protobuf.MAGIC + length(1, length(1, api_version.encode()) + length(2, kind.encode())) + length(2, message)


def test_members_of_inline_messages_belong_to_the_parent() -> None:
    volume = length(1, b"v") + length(2, length(19, length(1, length(1, b"cm"))))
    made = protobuf.decode(body("Pod", length(2, length(1, volume))))
    assert made["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "cm"}}]


def test_values_of_each_type() -> None:
    secret = length(2, length(1, b"k") + length(2, b"\x00\xff"))
    assert protobuf.decode(body("Secret", secret))["data"] == {"k": "AP8="}
    metadata = length(8, b"\x08\x80\xa8\xd6\xb9\x07") + b"\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    made = protobuf.decode(body("ConfigMap", length(1, metadata)))["metadata"]
    assert made == {"creationTimestamp": "2033-05-18T03:33:20Z", "deletionGracePeriodSeconds": -1}
    port = b"\x18\x50" + length(4, b"\x08\x01\x10\x00\x1a\x04http")
    assert protobuf.decode(body("Service", length(2, length(1, port))))["spec"]["ports"] == [{"port": 80, "targetPort": "http"}]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", 400), (b"{}", 400), (b"k8s\0garbage", 400), (body("Pod", b"\xff" * 20), 400), (body("Pod", b"\x0a\x7f"), 400),
        (body("ConfigMap", b"\x08\x01"), 400), (body("ConfigMap", length(1, length(1, b"\xff"))), 400), (body("Pod", b"\x0b"), 400),
        (body("Job", b"", "batch/v1"), 415),
    ],
)  # fmt: skip
def test_bodies_that_are_none(raw: bytes, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        protobuf.decode(raw)
    assert caught.value.code == code


@given(st.binary(max_size=120), st.sampled_from(["Pod", "Deployment", "Secret", "Service"]))
def test_random_bytes_are_refused_or_read(raw: bytes, kind: str) -> None:
    code = 0
    try:
        protobuf.decode(body(kind, raw, "apps/v1" if kind == "Deployment" else "v1"))
    except ApiError as error:
        code = error.code
    assert code in {0, 400}
