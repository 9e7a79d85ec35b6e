"""Packed frames, against protobuf written by hand (`oracles.protobuf`) and the frames of docs/protocol.md 2.4."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import protobuf
from oracles.protobuf import Field, varint, written
from oracles.protobuf import frame as framed

from pinnace.ext import _build
from pinnace.ext import frame as facade
from pinnace.ext.errors import FrameError, WireError
from pinnace.ext.records import Envelope

KEEPALIVE = bytes.fromhex(
    "010101000100" "0000005d"
    "0a2d0a2436663066356331652d336235612d346330652d396433622d30633662366631663261303118f681e682b966"
    "12260a09776562736f636b657412087265736f757263651a096b656570616c69766522046e6f64651a0470696e67"
)  # fmt: skip
CONTROL = bytes.fromhex(
    "010101000100" "0000008b"
    "0a2d0a2431313131313131312d323232322d343333332d383434342d353535353535353535353535188080e682b966"
    "12101a066865616465722206686561646572"
    "1a487b224e6f64655f6964223a5b22656467652d31225d2c2250726f6a6563745f6964223a5b22653633326162613932"
    "37656134616332623537356563313630336435366631 30225d7d"
)  # fmt: skip

TEXTS = st.text(max_size=9) | st.text(min_size=120, max_size=140)
INT64 = st.integers(-(2**63), 2**63 - 1)
ENVELOPES = st.builds(
    Envelope,
    msg_id=TEXTS,
    parent_id=TEXTS,
    timestamp=INT64 | st.integers(0, 300),
    resource_version=TEXTS,
    sync=st.booleans(),
    type=TEXTS,
    source=TEXTS,
    destination=TEXTS,
    group=TEXTS,
    operation=TEXTS,
    resource=TEXTS,
    body=st.binary(min_size=1, max_size=300) | st.just(b"null"),
)


def read(frame: ModuleType, stream: bytes) -> list[Envelope]:
    """Everything in a stream that ends with a whole frame."""
    reader = frame.FrameReader()
    found: list[Envelope] = reader.feed(stream)
    assert reader.feed(b"") == []
    return found


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:stop] for start, stop in pairwise(places)]


def test_facade_is_the_build_that_was_asked_for() -> None:
    assert facade.pack.__module__ == f"pinnace.ext.frame_{'py' if _build.PURE else 'c'}"


def test_frames_of_the_specification(frame: ModuleType) -> None:
    keepalive, control = read(frame, KEEPALIVE + CONTROL)
    assert keepalive == Envelope(
        msg_id="6f0f5c1e-3b5a-4c0e-9d3b-0c6b6f1f2a01",
        timestamp=1760000000123,
        source="websocket",
        group="resource",
        operation="keepalive",
        resource="node",
        body=b"ping",
    )
    assert (control.operation, control.resource, control.timestamp) == ("header", "header", 1760000000000)
    assert control.body == b'{"Node_id":["edge-1"],"Project_id":["e632aba927ea4ac2b575ec1603d56f10"]}'
    assert frame.pack([keepalive, control]) == KEEPALIVE + CONTROL


@given(st.lists(ENVELOPES, max_size=4))
def test_what_is_packed_is_protobuf(frame: ModuleType, messages: list[Envelope]) -> None:
    stream = frame.pack(messages)
    assert stream == b"".join(protobuf.packed(message) for message in messages)
    assert read(frame, stream) == messages


def test_pack_takes_any_iterable_and_nothing(frame: ModuleType) -> None:
    message = Envelope(msg_id="a", operation="b", resource="c")
    assert frame.pack(iter([message, message])) == frame.pack((message,)) * 2
    assert frame.pack([]) == b""


@given(st.lists(ENVELOPES, min_size=1, max_size=4), st.lists(st.integers(0, 3000), max_size=8))
def test_any_cutting_of_the_stream_gives_the_same(frame: ModuleType, messages: list[Envelope], cuts: list[int]) -> None:
    reader = frame.FrameReader()
    found = [message for piece in pieces(frame.pack(messages), cuts) for message in reader.feed(piece)]
    assert found == messages


def test_every_single_byte_at_a_time(frame: ModuleType) -> None:
    reader = frame.FrameReader()
    stream = KEEPALIVE + CONTROL + KEEPALIVE
    ends = [end for end in range(1, len(stream) + 1) if reader.feed(stream[end - 1 : end])]
    assert ends == [len(KEEPALIVE), len(KEEPALIVE + CONTROL), len(stream)]


@st.composite
def payloads(draw: st.DrawFn) -> tuple[bytes, Envelope]:
    """A payload as a foreign writer could make it (any order, doubled and unknown fields, parts split in two), and what it means."""
    expected = Envelope(msg_id="", operation="", resource="")
    payload = b""
    unknown = st.sampled_from(
        [written([(9, 5)]), written([(200, b"zzz")]), varint(9 << 3 | 1) + bytes(8), varint(9 << 3 | 5) + bytes(4), written([(1, 7)])]
    )
    for part in draw(st.lists(st.sampled_from((1, 2, 3, 0)), max_size=5)):
        if part == 0:
            payload += draw(unknown)
        elif part == 3:
            body = draw(st.binary(max_size=9))
            payload += written([(3, body)])
            expected.body = body or b"null"
        else:
            names = protobuf.HEADER_TEXTS if part == 1 else protobuf.ROUTE_TEXTS
            inner = b""
            for number in draw(st.lists(st.sampled_from((*names, 0, *((3, 4) if part == 1 else ()))), max_size=6)):
                field: Field
                if number == 0:
                    inner += draw(unknown).replace(written([(1, 7)]), written([(15, 7)]))
                    continue
                if part == 1 and number == 3:
                    zigzag = draw(st.integers(0, 2**64 - 1))
                    expected.timestamp = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
                    field = (3, zigzag)
                elif part == 1 and number == 4:
                    flag = draw(st.integers(0, 2))
                    expected.sync = flag != 0
                    field = (4, flag)
                else:
                    text = draw(st.text(max_size=5))
                    setattr(expected, names[number], text)
                    field = (number, text.encode())
                inner += written([field])
            payload += written([(part, inner)])
    return payload, expected


@given(payloads())
def test_foreign_writers_are_understood(frame: ModuleType, case: tuple[bytes, Envelope]) -> None:
    payload, expected = case
    assert read(frame, framed(payload)) == [expected]


def test_numbers_may_be_longer_than_they_need(frame: ModuleType) -> None:
    payload = b"\x8a\x80\x00" + b"\x85\x80\x80\x00" + b"\x0a\x82\x00ab"
    assert read(frame, framed(payload))[0].msg_id == "ab"


def test_version_type_and_flags_do_not_count(frame: ModuleType) -> None:
    assert read(frame, b"\xff\x00\x07\x09\x04\x80" + KEEPALIVE[6:])[0].operation == "keepalive"


BAD_PAYLOADS = {
    "number breaks off": (b"\x80", "a number in a frame breaks off or is too long"),
    "number too long": (b"\x0a" + b"\x80" * 10 + b"\x00", "a number in a frame breaks off or is too long"),
    "no length": (b"\x0a", "a number in a frame breaks off or is too long"),
    "no number": (b"\x48", "a number in a frame breaks off or is too long"),
    "field number 0": (b"\x00\x00", "a frame has a field without a number"),
    "field number 0 as bytes": (b"\x02\x00", "a frame has a field without a number"),
    "group": (b"\x0b", "a frame has a field of the unknown type 3"),
    "end of group": (b"\x0c", "a frame has a field of the unknown type 4"),
    "kind 6": (b"\x0e", "a frame has a field of the unknown type 6"),
    "kind 7": (b"\x0f", "a frame has a field of the unknown type 7"),
    "bytes beyond the end": (b"\x0a\x05abcd", "a field of a frame reaches beyond its end"),
    "bytes of 2**31": (b"\x0a" + varint(2**31), "a field of a frame reaches beyond its end"),
    "bytes of 2**63": (b"\x0a" + varint(2**63), "a field of a frame reaches beyond its end"),
    "bytes of 2**64-1": (b"\x0a" + varint(2**64 - 1), "a field of a frame reaches beyond its end"),
    "eight bytes beyond the end": (b"\x09" + bytes(7), "a field of a frame reaches beyond its end"),
    "four bytes beyond the end": (b"\x0d" + bytes(3), "a field of a frame reaches beyond its end"),
    "inner beyond the outer": (b"\x0a\x03\x0a\x05ab" + b"cde" * 9, "a field of a frame reaches beyond its end"),
    "text in a header": (written([(1, written([(1, b"\xff")]))]), "a text in a frame is no UTF-8"),
    "text in a route": (written([(2, written([(4, b"\xed\xa0\x80")]))]), "a text in a frame is no UTF-8"),
}


@pytest.mark.parametrize(("payload", "reason"), BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
def test_bad_payloads_are_refused(frame: ModuleType, payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError) as caught:
        frame.FrameReader().feed(KEEPALIVE + framed(payload))
    assert str(caught.value) == reason
    assert isinstance(caught.value, WireError)


@given(ENVELOPES, st.data())
def test_a_payload_cut_at_any_byte_is_refused_or_shorter(frame: ModuleType, message: Envelope, data: Any) -> None:
    payload = frame.pack([message])[frame.HEADER_BYTES :]
    end = data.draw(st.integers(0, len(payload) - 1))
    borders = [0]
    for number, value in protobuf.read(payload):
        borders.append(borders[-1] + len(written([(number, value)])))
    if end in borders:
        assert read(frame, framed(payload[:end])) != [message] or message.body == b"null"
    else:
        with pytest.raises(FrameError):
            frame.FrameReader().feed(framed(payload[:end]))


def test_an_oversize_frame_is_refused_on_sight(frame: ModuleType) -> None:
    limit = facade.MAX_PAYLOAD
    for size in (limit + 1, 2**31, 2**32 - 1):
        with pytest.raises(FrameError, match=f"announces {size} bytes"):
            frame.FrameReader().feed(KEEPALIVE[:6] + size.to_bytes(4, "big"))
    reader = frame.FrameReader()
    assert reader.feed(KEEPALIVE[:6] + limit.to_bytes(4, "big")) == []


def test_the_largest_frame_passes_and_one_byte_more_does_not(frame: ModuleType) -> None:
    overhead = len(frame.pack([Envelope(msg_id="", operation="o", resource="r", body=b"x" * (1 << 21))])) - frame.HEADER_BYTES - (1 << 21)
    body = b"x" * (facade.MAX_PAYLOAD - overhead)
    message = Envelope(msg_id="", operation="o", resource="r", body=body)
    stream = frame.pack([message])
    assert len(stream) == facade.MAX_PAYLOAD + frame.HEADER_BYTES
    reader = frame.FrameReader()
    found = [each for start in range(0, len(stream), 1 << 20) for each in reader.feed(stream[start : start + (1 << 20)])]
    assert found == [message]
    message.body = body + b"x"
    with pytest.raises(FrameError, match="over the limit"):
        frame.pack([message])


@given(st.binary(max_size=60))
def test_any_payload_is_a_message_or_an_error(frame: ModuleType, payload: bytes) -> None:
    try:
        (message,) = read(frame, framed(payload))
    except FrameError:
        return
    assert read(frame, frame.pack([message])) == [message]
