"""D-Bus bytes: there and back, in any pieces, and what is malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.pods.upkeep.dbuswire import DbusFailed, Decoder, Kind, Message, encode

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
values: dict[str, st.SearchStrategy[Any]] = {
    "s": texts,
    "o": st.just("/a/b"),
    "u": st.integers(0, 2**32 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "b": st.booleans(),
    "t": st.integers(0, 2**64 - 1),
    "g": st.just("su"),
}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    signature = "".join(draw(st.lists(st.sampled_from(sorted(values)), max_size=5)))
    body = tuple(draw(values[kind]) for kind in signature)
    return Message(
        draw(st.sampled_from(list(Kind))),
        draw(st.integers(1, 2**32 - 1)),
        "/org/x",
        "org.x.Y",
        draw(st.sampled_from(["Member", "Other"])),
        destination=draw(st.sampled_from(["", "org.x"])),
        reply_serial=draw(st.integers(0, 9)),
        signature=signature,
        body=body,
        fds=draw(st.integers(0, 2)),
    )


@given(st.lists(messages(), max_size=4), st.integers(1, 40))
def test_there_and_back_in_any_pieces(sent: list[Message], size: int) -> None:
    data = b"".join(encode(each) for each in sent)
    decoder = Decoder()
    found = [each for start in range(0, len(data), size) for each in decoder.feed(data[start : start + size])]
    assert found == sent


def test_a_variant_gives_its_value() -> None:
    sent = Message(Kind.RETURN, 1, reply_serial=7, signature="v", body=(("t", 5_000_000),))
    (found,) = Decoder().feed(encode(sent))
    assert found.body == (5_000_000,)


def test_bytes_as_the_specification_lays_them_out() -> None:
    data = encode(Message(Kind.CALL, 1, "/a", "b.c", "D", destination="e.f", signature="s", body=("x",)))
    assert data[:16] == b"l\x01\x00\x01" + b"\x06\x00\x00\x00" + b"\x01\x00\x00\x00" + b"\x47\x00\x00\x00"
    assert data[16:28] == b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00"
    assert data[-6:] == b"\x01\x00\x00\x00x\x00"
    assert (len(data) - 6) % 8 == 0


@given(st.binary(min_size=16, max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for start in (b"", b"l", b"B", b"l\x02\x00\x01\x08\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00"):
        try:
            Decoder().feed(start + data)
        except DbusFailed:
            continue


@pytest.mark.parametrize("size", [1 << 20, 0xFFFFFFFF])
def test_a_giant_is_refused_before_it_comes(size: int) -> None:
    head = b"l\x02\x00\x01" + size.to_bytes(4, "little") + b"\x01\x00\x00\x00\x08\x00\x00\x00"
    with pytest.raises(DbusFailed, match="bytes"):
        Decoder().feed(head)
