"""The text envelope, against Go's rules as `oracles.envelopes` states them."""

from __future__ import annotations

import base64
import json
from types import ModuleType
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import envelopes as oracle

from pinnace.ext import _build
from pinnace.ext import envelope as facade
from pinnace.ext.errors import EnvelopeError, WireError
from pinnace.ext.records import Envelope

KEEPALIVE = (
    b'{"header":{"msg_id":"6f0f5c1e-3b5a-4c0e-9d3b-0c6b6f1f2a01","timestamp":1760000000123},'
    b'"route":{"source":"websocket","group":"resource","operation":"keepalive","resource":"node"},"content":"ping"}'
)
FULL = (
    b'{"header":{"msg_id":"m","parent_msg_id":"p","timestamp":-5,"resourceversion":"77","sync":true,"type":"t"},'
    b'"route":{"source":"s","destination":"d","group":"g","operation":"o","resource":"r"},"content":{"a":[1,-2.5e-3,null,true,"\\u00e9"]}}'
)

TEXTS = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
BODIES = VALUES.map(lambda value: json.dumps(value).encode())
INT64 = st.integers(-(2**63), 2**63 - 1)
ENVELOPES = st.builds(
    Envelope,
    msg_id=TEXTS,
    parent_id=TEXTS,
    timestamp=INT64,
    resource_version=TEXTS,
    sync=st.booleans(),
    type=TEXTS,
    source=TEXTS,
    destination=TEXTS,
    group=TEXTS,
    operation=TEXTS,
    resource=TEXTS,
    body=BODIES,
)

BLANKS = st.text(" \t\r\n", max_size=2)


@st.composite
def spelled(draw: st.DrawFn, value: Any) -> str:
    """JSON text of a value (a list of pairs is an object) in one of the many ways there are to write it."""
    if isinstance(value, list):
        members = [f"{draw(BLANKS)}{draw(spelled(key))}{draw(BLANKS)}:{draw(BLANKS)}{draw(spelled(each))}" for key, each in value]
        return "{" + (",".join(members) or draw(BLANKS)) + draw(BLANKS) + "}"
    if isinstance(value, str):
        characters = []
        for character in value:
            ways = [json.dumps(character)[1:-1], "".join(f"\\u{unit:04X}" for unit in _units(character))]
            if character >= " " and character not in '"\\':
                ways.append(character)
            characters.append(draw(st.sampled_from(ways)))
        return '"' + "".join(characters) + '"'
    return json.dumps(value)


def _units(character: str) -> list[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


@st.composite
def cased(draw: st.DrawFn, name: str) -> str:
    return "".join(draw(st.sampled_from((character, character.upper(), "\u017f" if character == "s" else character))) for character in name)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """An envelope with any order, case, doubling and omission of members, unknown ones, nulls, and now and then a wrong type."""
    scalars = TEXTS | st.text('\ud800\udc00a\\"</\u2028', max_size=3) | st.none()
    outer: list[tuple[str, Any]] = []
    for section in draw(st.lists(st.sampled_from(("header", "route", "content", "other")), max_size=5)):
        if section in oracle.FIELDS and draw(st.integers(0, 9)) > 0:
            inner: list[tuple[str, Any]] = []
            for name in draw(st.lists(st.sampled_from((*oracle.FIELDS[section], "unknown", "typ", "groups")), max_size=7)):
                usual: st.SearchStrategy[Any] = scalars
                if name == "timestamp":
                    usual = INT64 | st.none() | st.integers(2**63 - 2, 2**63 + 1) | st.integers(-(2**63) - 2, -(2**63) + 1)
                elif name == "sync":
                    usual = st.booleans() | st.none()
                value = draw(usual if draw(st.integers(0, 29)) else VALUES)
                inner.append((draw(cased(name)), value if not isinstance(value, (list, dict)) else [("x", json.dumps(value))]))
            outer.append((draw(cased(section)), inner))
        else:
            outer.append((draw(cased(section)), draw(scalars | st.integers() | st.just([("a", [("b", 1)])]))))
    return (draw(BLANKS) + draw(spelled(outer)) + draw(st.sampled_from(("", "\n", " {", "null", "}")))).encode("utf-8", "surrogatepass")


def test_facade_is_the_build_that_was_asked_for() -> None:
    assert facade.decode.__module__ == f"pinnace.ext.envelope_{'py' if _build.PURE else 'c'}"


def test_every_field_is_read(envelope: ModuleType) -> None:
    message = envelope.decode(FULL)
    assert message == Envelope(
        msg_id="m",
        parent_id="p",
        timestamp=-5,
        resource_version="77",
        sync=True,
        type="t",
        source="s",
        destination="d",
        group="g",
        operation="o",
        resource="r",
        body=b'{"a":[1,-2.5e-3,null,true,"\\u00e9"]}',
    )
    assert envelope.encode(message) == FULL
    assert envelope.encode(envelope.decode(KEEPALIVE)) == KEEPALIVE


@given(ENVELOPES)
def test_what_is_written_is_what_go_writes(envelope: ModuleType, message: Envelope) -> None:
    text = envelope.encode(message)
    assert text == oracle.encode(message)
    assert envelope.decode(text) == message
    assert orjson.loads(text)["header"]["msg_id"] == message.msg_id


@given(st.text('\ud800\udfff\u2028<>&\x00\x1f\x7f"\\/é', min_size=1))
def test_characters_that_need_care_when_written(envelope: ModuleType, text: str) -> None:
    message = Envelope(msg_id=text, operation="o", resource=text)
    assert envelope.encode(message) == oracle.encode(message)
    assert envelope.decode(envelope.encode(message)).resource == text.translate(oracle.NO_SURROGATES)


@given(documents())
@example(b'{"header":{"msg_id":"a"},"header":{"timestamp":1},"HEADER":null}')
@example(b'{"route":{"\\u0067roup":"g","group":null,"\xc5\xbfource":"x"}}')
@example(b'{"header":{"msg_id":"\\ud83d\\ude00\\ud83d\\u0041\\ude00"}}')
@example(b'{"header":{"msg_id":"\xe2\x82 \xff \xed\xa0\x80","\xff":1}}')
@example(b'{"header":{"timestamp":-0},"content":1,"content":null}')
def test_any_spelling_is_read_as_go_reads_it(envelope: ModuleType, text: bytes) -> None:
    try:
        expected, content = oracle.decode(text)
    except oracle.Refused:
        with pytest.raises(EnvelopeError):
            envelope.decode(text)
        return
    message = envelope.decode(text)
    assert oracle.loads(message.body)[0] == content
    assert message.body in text or message.body == b"null"
    assert message.body.strip() == message.body
    message.body = expected.body
    assert message == expected


@pytest.mark.parametrize("tail", [b"", b"\n", b"  ", b"{", b"garbage", b"\x00", KEEPALIVE])
def test_what_follows_the_first_value_is_left_alone(envelope: ModuleType, tail: bytes) -> None:
    assert envelope.decode(b" \r\n\t" + KEEPALIVE + tail).msg_id == "6f0f5c1e-3b5a-4c0e-9d3b-0c6b6f1f2a01"


@pytest.mark.parametrize(
    "body",
    [b'"a \\" } b"', b"[]", b"{}", b"[[],{}]", b'{"a":{"b":[{"c":"]}"}]}}', b"0", b"-0.0e+10", b"true", b"false", b"null", b'""',
     b'{ "a" : [ 1 , 2 ] }', b'"\xff not utf-8"'],
)  # fmt: skip
@pytest.mark.parametrize("blank", [b"", b" \n"])
def test_a_body_is_kept_byte_for_byte(envelope: ModuleType, body: bytes, blank: bytes) -> None:
    text = b'{"content"' + blank + b":" + blank + body + blank + b',"route":{"operation":"x"}}'
    message = envelope.decode(text)
    assert message.body == body
    assert message.operation == "x"
    assert envelope.encode(message).endswith(b'"content":' + body + b"}")


@pytest.mark.parametrize("text", [KEEPALIVE, FULL, b'{"header":{"msg_id":"\\ud83d\\ude00"},"content":-12.5e+3}'])
def test_a_text_cut_at_any_byte_is_refused(envelope: ModuleType, text: bytes) -> None:
    for end in range(len(text)):
        with pytest.raises(EnvelopeError):
            envelope.decode(text[:end])


BAD = {
    b"": "no JSON object but an empty message",
    b" \n": "no JSON object but an empty message",
    b"[]": "no JSON object",
    b"null": "no JSON object",
    b'"x"': "no JSON object",
    b"\xef\xbb\xbf{}": "no JSON object",
    b"{": "the JSON text ends too early, after 1 bytes",
    b"{,}": "bad JSON at byte 1: b',}'",
    b'{"a":1,}': "bad JSON at byte 7: b'}'",
    b'{"a":1 "b":2}': "bad JSON at byte 7: b'\"b\":2}'",
    b'{"a" 1}': "bad JSON at byte 5: b'1}'",
    b"{a:1}": "bad JSON at byte 1: b'a:1}'",
    b"{'a':1}": "bad JSON at byte 1: b\"'a':1}\"",
    b'{"a":}': "bad JSON at byte 5: b'}'",
    b'{"a":[1,]}': "bad JSON at byte 8: b']}'",
    b'{"a":[1}}': "bad JSON at byte 7: b'}}'",
    b'{"a":{"b":1]}': "bad JSON at byte 11: b']}'",
    b'{"a":01}': "bad JSON at byte 6: b'1}'",
    b'{"a":+1}': "bad JSON at byte 5: b'+1}'",
    b'{"a":-}': "bad JSON at byte 6: b'}'",
    b'{"a":1.}': "bad JSON at byte 7: b'}'",
    b'{"a":.5}': "bad JSON at byte 5: b'.5}'",
    b'{"a":1e}': "bad JSON at byte 7: b'}'",
    b'{"a":1e+}': "bad JSON at byte 8: b'}'",
    b'{"a":NaN}': "bad JSON at byte 5: b'NaN}'",
    b'{"a":Infinity}': "bad JSON at byte 5: b'Infinity}'",
    b'{"a":True}': "bad JSON at byte 5: b'True}'",
    b'{"a":truth}': "bad JSON at byte 5: b'truth}'",
    b'{"a":nul}': "bad JSON at byte 5: b'nul}'",
    b'{"a":"\n"}': "bad JSON at byte 6: b'\\n\"}'",
    b'{"a":"\x00"}': "bad JSON at byte 6: b'\\x00\"}'",
    b'{"a":"\\x"}': "bad JSON at byte 7: b'x\"}'",
    b'{"a":"\\u12g4"}': "bad JSON at byte 7: b'u12g4\"}'",
    b'{"a":"\\u12"}': "bad JSON at byte 7: b'u12\"}'",
    b'{"a":1}/* */': None,
    b'{"a":/* */1}': "bad JSON at byte 5: b'/* */1}'",
    b'{"header":1}': "header: expected an object",
    b'{"header":[]}': "header: expected an object",
    b'{"route":"x"}': "route: expected an object",
    b'{"header":{"msg_id":5}}': "header.msg_id: expected a string",
    b'{"header":{"parent_msg_id":{}}}': "header.parent_msg_id: expected a string",
    b'{"header":{"resourceversion":5}}': "header.resourceversion: expected a string",
    b'{"header":{"timestamp":"5"}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":5.0}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":5e3}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":1234567890123456789.5}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":9223372036854775808}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":-9223372036854775809}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"timestamp":true}}': "header.timestamp: expected a whole number of 64 bits",
    b'{"header":{"sync":1}}': "header.sync: expected true or false",
    b'{"header":{"sync":"true"}}': "header.sync: expected true or false",
    b'{"route":{"group":[]}}': "route.group: expected a string",
    b'{"route":{"resource":false}}': "route.resource: expected a string",
}


@pytest.mark.parametrize(("text", "reason"), BAD.items(), ids=repr)
def test_bad_texts_are_refused_with_their_place(envelope: ModuleType, text: bytes, reason: str | None) -> None:
    if reason is None:
        envelope.decode(text)
        return
    with pytest.raises(WireError) as caught:
        envelope.decode(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_has_a_limit(envelope: ModuleType, opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return b'{"content":' + opening * levels + b"1" + closing * levels + b"}"

    assert len(envelope.decode(nested(facade.MAX_DEPTH)).body) == facade.MAX_DEPTH * (len(opening) + len(closing)) + 1
    for levels in (facade.MAX_DEPTH + 1, 200_000):
        with pytest.raises(EnvelopeError):
            envelope.decode(nested(levels))
    with pytest.raises(EnvelopeError):
        envelope.decode(b'{"header":{"unknown":' + opening * 200_000)


def test_a_body_of_many_megabytes_passes(envelope: ModuleType) -> None:
    body = b'"' + base64.b64encode(bytes(300_000)) + b'"'
    assert envelope.decode(b'{"content":' + body + b"}").body == body


@given(st.binary(max_size=40))
def test_any_bytes_are_an_envelope_or_an_error(envelope: ModuleType, text: bytes) -> None:
    try:
        envelope.decode(text)
    except EnvelopeError:
        with pytest.raises(oracle.Refused):
            oracle.decode(text)
