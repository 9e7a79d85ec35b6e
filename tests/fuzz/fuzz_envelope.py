"""The envelope decoder under damaged envelopes: EnvelopeError or a message, the same in both builds, and as Go and orjson see it.

python tests/fuzz/fuzz_envelope.py --runs 200000 [--seed N]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutations import VECTORS, builds, main, mutated
from oracles import envelopes as oracle

from pinnace.ext.errors import EnvelopeError
from pinnace.ext.records import Envelope

BUILDS = builds("envelope")
SAMPLES = [
    text.encode()
    for name in ("kubeedge-1.23.1-websocket", "edge-to-upstream-cloud")
    for line in (VECTORS / "kubeedge" / f"{name}.jsonl").read_text().splitlines()
    if len(text := json.loads(line)["text"]) < 1500
]
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"false", b"-", b"0", b"1e999", b"-0.5E+1",
    b"9223372036854775808", b"\\u", b"\\ud800", b"\\udc00", b"\\u0000", b"\\n", b"\x00", b"\x1f", b"\x7f", b"\xff",
    b"\xe2\x80\xa8", b"\xe2\x82", b"\xc5\xbf", b" ", b'"header":{', b',"route":{"group":"x"}', b'"msg_id":', b'"TIMESTAMP":5,',
    b'"sync":true,', b'"content":', b'"\\u0068eader":{}', b"[" * 1100, b'{"a":' * 1100,
]  # fmt: skip
DEEP = 400
"""Brackets from which on the oracles, which recurse, have limits of their own."""


def decoded(build: Any, text: bytes) -> Envelope | str:
    try:
        message: Envelope = build.decode(text)
    except EnvelopeError as error:
        return str(error)
    return message


def case(source: random.Random) -> None:
    text = mutated(source, SAMPLES, TOKENS)
    results = [decoded(build, text) for build in BUILDS]
    assert all(result == results[0] for result in results), (text, results)
    result = results[0]
    if isinstance(result, Envelope):
        written = [build.encode(result) for build in BUILDS]
        assert all(each == oracle.encode(result) for each in written), (text, written)
        assert all(decoded(build, written[0]) == result for build in BUILDS), text
        assert result.body in text or result.body == b"null", text
    if text.count(b"[") + text.count(b"{") > DEEP:
        return
    try:
        expected, content = oracle.decode(text)
    except oracle.Refused:
        assert isinstance(result, str), text
    else:
        assert isinstance(result, Envelope), (text, result)
        assert oracle.loads(result.body)[0] == content, text
        expected.body = result.body
        assert result == expected, text
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return
    if isinstance(value, dict) and isinstance(result, str):
        assert ": expected " in result, (text, result)


if __name__ == "__main__":
    sys.exit(main(__doc__, case))
