"""Answers about nodes and leases, as an upstream cloudcore gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.contract.answers import object_of
from pinnace.core.base.contract.envelopes import load_body
from pinnace.core.base.errors import RemoteError
from pinnace.ext import envelope as codec
from pinnace.ext.records import Envelope

CAPTURE = Path(__file__).resolve().parents[4] / "vectors" / "kubeedge" / "edge-to-upstream-cloud.jsonl"


def answer(content: Any, operation: str = "response") -> Envelope:
    return Envelope(msg_id="a", parent_id="q", operation=operation, resource="null/node/n", body=json.dumps(content).encode())


def recorded() -> list[tuple[str, str, Any]]:
    """(operation, resource, answer's content) of what an edge asked about nodes and leases."""
    asked: dict[str, tuple[str, str]] = {}
    found = []
    for line in CAPTURE.read_text().splitlines():
        frame = json.loads(line)
        if frame["flow"] != "node":
            continue
        message = codec.decode(frame["text"].encode())
        if frame["from"] == "edge":
            asked[message.msg_id] = (message.operation, message.resource)
        elif message.parent_id in asked and message.resource != "k8s/ca.crt":
            found.append((*asked[message.parent_id], load_body(message)))
    return found


def test_every_recorded_answer_is_an_object_or_a_reason() -> None:
    outcomes = []
    for operation, resource, content in recorded():
        kind = resource.split("/")[1]
        try:
            found = object_of(answer(content))
        except RemoteError as error:
            outcomes.append((operation, kind, error.reason, error.code))
        else:
            outcomes.append((operation, kind, "ok", bool(found)))
    assert {outcome for outcome in outcomes if outcome[2] != "ok"} == {
        ("insert", "node", "AlreadyExists", 409),
        ("query", "node", "NotFound", 404),
        ("query", "lease", "NotFound", 404),
        ("update", "lease", "Conflict", 409),
        ("update", "lease", "Invalid", 422),
        ("insert", "lease", "AlreadyExists", 409),
        ("patch", "nodepatch", "BadRequest", 400),
        ("patch", "nodepatch", "NotFound", 404),
    }
    assert {outcome for outcome in outcomes if outcome[2] == "ok"} == {
        ("insert", "node", "ok", True),
        ("insert", "lease", "ok", True),
        ("update", "lease", "ok", True),
        ("query", "lease", "ok", True),
        ("update", "node", "ok", False),
    }


@pytest.mark.parametrize(
    ("content", "operation", "reason"),
    [
        ({"Object": {"metadata": {}}, "Err": {}}, "response", "InternalError"),
        ({"Object": None, "Err": {"Op": "Get", "URL": "https://x", "Err": {}}}, "response", "InternalError"),
        ({"Object": None, "Err": None}, "response", "InternalError"),
        ({"ErrStatus": {"reason": "Forbidden", "code": 403, "message": "no"}}, "response", "Forbidden"),
        ({"ErrStatus": {}}, "response", "InternalError"),
        ('nodes "n" not found', "error", "NotFound"),
        ("something broke", "error", "InternalError"),
        ("surprise", "response", "InternalError"),
        (None, "response", "InternalError"),
    ],
)
def test_what_is_no_success_is_never_taken_for_one(content: Any, operation: str, reason: str) -> None:
    with pytest.raises(RemoteError) as caught:
        object_of(answer(content, operation))
    assert caught.value.reason == reason


def test_an_answer_may_be_json_in_a_text() -> None:
    assert object_of(answer(json.dumps({"Object": {"a": 1}, "Err": None}))) == {"a": 1}
