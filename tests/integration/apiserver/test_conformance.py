"""Every recorded request to a real API server, asked again here: no difference without a reason, and the document says what there is."""

from __future__ import annotations

from typing import Any

from replay import apiserver as conformance

MAKE = "run `python tests/replay/apiserver.py --write`"


async def test_answers_are_those_of_kubernetes(own_server: Any, tmp_path_factory: Any) -> None:
    second = type(own_server)(tmp_path_factory.mktemp("second"))
    second.start()
    try:
        outcomes = await conformance.replay(conformance.session_of(own_server), conformance.session_of(second))
    finally:
        second.stop()
    assert conformance.unexplained(outcomes) == []
    assert conformance.DOCUMENT.read_text() == conformance.document(outcomes), MAKE


def test_a_difference_is_seen() -> None:
    case = conformance.Case("x", 1, {"method": "GET", "path": "/x", "headers": {}}, {"status": 200, "body": {"a": 1, "b": [1, 2]}})
    answer = {"status": 404, "headers": {}, "body": {"a": 2, "b": [1], "c": 3}}
    assert conformance.differences(case, answer) == [
        "status 404 for 200", "body.a: 2 for 1", "body.b has 1 elements for 2", "body.c is additional",
    ]  # fmt: skip
    outcome = conformance.Outcome(case, "different", ["status 404 for 200"])
    assert "x: status 404 for 200" in conformance.unexplained([outcome])


def test_what_differs_from_run_to_run_is_masked() -> None:
    one = {"metadata": {"uid": "0964ebbb-0986-4a6c-a73d-15286cb85007", "resourceVersion": "5", "creationTimestamp": "2026-11-23T21:32:32Z"}}
    other = {
        "metadata": {"uid": "c8dbdf57-ae93-4d45-acdb-bb9ca41a54b5", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"}
    }
    assert conformance.masked(one) == conformance.masked(other)
    assert conformance.masked({"uid": "11111111-1111-1111-1111-111111111111"}) != conformance.masked({"uid": one["metadata"]["uid"]})
    rows = [[{"cells": ["a", age, 3], "object": None}] for age in ("5s", "2m3s")]
    assert conformance.masked({"rows": rows[0]}) == conformance.masked({"rows": rows[1]})
