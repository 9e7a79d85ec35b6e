"""SPDY/3.1: the dictionary, frames in any chunks, and what breaks the protocol."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.tunnel.spdy import DICTIONARY, FRAME_BYTES, Leaving, Opened, Received, Reset, Spdy, SpdyError


def control(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(body)) + body


def block(headers: dict[str, str]) -> bytes:
    packed = struct.pack(">I", len(headers))
    for text in (text for pair in headers.items() for text in pair):
        packed += struct.pack(">I", len(text)) + text.encode()
    return packed


def session() -> bytes:
    """As a client sends it: a stream, data, a ping, the end of both."""
    deflate = zlib.compressobj(zdict=DICTIONARY)

    def syn(number: int, headers: dict[str, str]) -> bytes:
        return control(1, struct.pack(">IIH", number, 0, 0) + deflate.compress(block(headers)) + deflate.flush(zlib.Z_SYNC_FLUSH))

    return b"".join(
        [
            syn(1, {"streamType": "error", "port": "80"}), syn(3, {"streamType": "data", "port": "80"}),
            struct.pack(">II", 3, 5) + b"hello", control(6, struct.pack(">I", 1)), control(4, struct.pack(">I", 0)),
            control(9, struct.pack(">II", 3, 100)), struct.pack(">II", 3, 1 << 24), control(3, struct.pack(">II", 1, 5)),
            control(7, struct.pack(">II", 0, 0)),
        ]
    )  # fmt: skip


EVENTS = [
    Opened(1, {"streamtype": "error", "port": "80"}, False),
    Opened(3, {"streamtype": "data", "port": "80"}, False),
    Received(3, b"hello", False),
    Received(3, b"", True),
    Reset(1),
    Leaving(),
]


def test_the_dictionary_is_the_drafts() -> None:
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(st.lists(st.integers(1, 60), max_size=20))
def test_any_chunks_give_the_same_events(sizes: list[int]) -> None:
    data, spdy, events = session(), Spdy(), []
    for size in [*sizes, len(data)]:
        events += spdy.receive(data[:size])
        data = data[size:]
    assert events == EVENTS
    assert spdy.data_to_send() == control(6, struct.pack(">I", 1))


def test_what_we_send_is_understood() -> None:
    ours, theirs = Spdy(), Spdy()
    ours.reply(1, {"a": "b"})
    ours.send(1, b"data", is_last=True)
    ours.reset(3, 5)
    assert theirs.receive(ours.data_to_send()) == [Received(1, b"data", True), Reset(3)]


def test_what_a_client_sends_is_understood() -> None:
    ours, theirs = Spdy(is_client=True), Spdy()
    assert [ours.open({"streamType": "stdin", "port": "80"}), ours.open({"streamType": "error"}, is_last=True)] == [1, 3]
    assert theirs.receive(ours.data_to_send()) == [
        Opened(1, {"streamtype": "stdin", "port": "80"}, False),
        Opened(3, {"streamtype": "error"}, True),
    ]
    theirs.reply(1)
    assert ours.receive(theirs.data_to_send()) == []


@pytest.mark.parametrize(("is_client", "answered"), [(True, 2), (False, 1)])
def test_only_the_other_sides_pings_are_answered(is_client: bool, answered: int) -> None:
    ours = Spdy(is_client=is_client)
    pings = {number: control(6, struct.pack(">I", number)) for number in (1, 2)}
    assert ours.receive(pings[1] + pings[2]) == []
    assert ours.data_to_send() == pings[answered]


@pytest.mark.parametrize(
    "data",
    [
        control(99, b""),
        control(1, b"short"),
        control(1, bytes(10) + b"no zlib"),
        struct.pack(">HHI", 0x8002, 6, 4) + bytes(4),
        struct.pack(">II", 1, FRAME_BYTES + 1),
        control(1, bytes(10) + zlib.compress(bytes(1 << 20))),
        control(1, bytes(10) + zlib.compress(b"\x00\x00\x00\x01\xff\xff\xff\xff")),
    ],
)
def test_what_breaks_it(data: bytes) -> None:
    with pytest.raises(SpdyError):
        Spdy().receive(data)


@given(st.binary(max_size=200))
def test_anything_is_events_or_refused(data: bytes) -> None:
    with contextlib.suppress(SpdyError):
        Spdy().receive(data)
