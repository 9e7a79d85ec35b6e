"""Every uncut envelope recorded between upstream peers decodes and re-encodes to equal JSON (tests/vectors/kubeedge)."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from oracles import envelopes as oracle

from pinnace.ext.envelope import decode
from pinnace.ext.errors import EnvelopeError
from pinnace.ext.records import Envelope

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


def form(message: Envelope) -> str:
    """The kind of address a message has, as docs/captures.md writes it."""
    parts = message.resource.split("/")
    if message.group == "user":
        return "a topic or an address"
    if parts == [""]:
        return "(none)"
    if parts[0] == "device":
        return "`device/<device>/" + "/".join(parts[-2:]) + "`"
    if parts[0] == "node" and len(parts) == 5:
        return f"`node/<node>/<ns>/{parts[3]}/<name>`"
    return f"`<ns>/{parts[1]}/<name>`" if len(parts) == 3 else f"`{message.resource}`"


def test_the_table_of_flows_is_whole() -> None:
    text = (Path(__file__).parents[3] / "docs" / "captures.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(("| edge |", "| cloud |"))
    ]
    listed = {(peer, address, operation) for peer, address, operations, _ in rows for operation in operations.split(", ")}
    found = set()
    for capture in CAPTURES:
        for line in lines(capture):
            if line["text"] != REFUSED:
                message = decode(line["text"].encode())
                found.add((line["from"], form(message), message.operation or "(none)"))
    assert found <= listed
    assert listed - found == {("cloud", "`node/<node>/<ns>/pod/<name>`", "update")}  # recorded with a shortened body only
