"""Every uncut envelope recorded between upstream peers decodes and re-encodes to equal JSON (tests/vectors/kubeedge)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from oracles import envelopes as oracle

from pinnace.ext.errors import EnvelopeError

VECTORS = Path(__file__).parents[2] / "vectors" / "kubeedge"
CAPTURES = {"edge-to-upstream-cloud": 275, "kubeedge-1.23.1-websocket": 86, "upstream-edge-to-cloud": 266}
REFUSED = '{"header":{"msg_id":5}}'
"""Sent to a real cloudcore to see what it does; it closed the connection, so this one must be refused."""


def lines(capture: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (VECTORS / f"{capture}.jsonl").read_text().splitlines()]


def as_go_keeps_it(text: str) -> Any:
    """The first value of `text` with known names in lower case, unknown ones dropped, and the content there even when it is null."""
    value: dict[str, Any] = {name.lower(): inner for name, inner in json.JSONDecoder().raw_decode(text)[0].items()}
    kept: dict[str, Any] = {"content": value.get("content")}
    for part, names in oracle.FIELDS.items():
        inner = {name.lower(): each for name, each in value.get(part, {}).items()}
        kept[part] = {name: each for name, each in inner.items() if name in names}
    kept["header"] = {"msg_id": "", "timestamp": 0} | kept["header"]
    return kept


@pytest.mark.parametrize(("capture", "count"), CAPTURES.items())
def test_every_recorded_envelope_survives(envelope: ModuleType, frame: ModuleType, capture: str, count: int) -> None:
    recorded = lines(capture)
    assert len(recorded) == count
    messages = []
    for line in recorded:
        if line["text"] == REFUSED:
            with pytest.raises(EnvelopeError):
                envelope.decode(REFUSED.encode())
            continue
        message = envelope.decode(line["text"].encode())
        messages.append(message)
        written = envelope.encode(message)
        assert json.loads(written) == as_go_keeps_it(line["text"])
        expected, _ = oracle.decode(line["text"].encode())
        expected.body = message.body
        assert message == expected
        if capture == "kubeedge-1.23.1-websocket":  # Go wrote these, and they are kept as they were
            assert written + b"\n" == line["text"].encode()
    reader = frame.FrameReader()
    assert reader.feed(frame.pack(messages)) == messages
    assert count - len(messages) == (1 if capture == "edge-to-upstream-cloud" else 0)
