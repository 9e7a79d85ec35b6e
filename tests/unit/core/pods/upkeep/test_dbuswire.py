"""D-Bus bytes: there and back, in any pieces, and what is malformed."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.pods.upkeep.dbuswire import DbusFailed, Decoder, Kind, Message, encode, types_of

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
values: dict[str, st.SearchStrategy[Any]] = {
    "s": texts,
    "o": st.just("/a/b"),
    "u": st.integers(0, 2**32 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "b": st.booleans(),
    "t": st.integers(0, 2**64 - 1),
    "x": st.integers(-(2**63), 2**63 - 1),
    "d": st.floats(allow_nan=False),
    "n": st.integers(-(2**15), 2**15 - 1),
    "y": st.integers(0, 255),
    "g": st.just("a{s(uv)}"),
    "at": st.lists(st.integers(0, 2**64 - 1), max_size=3),
    "aas": st.lists(st.lists(texts, max_size=3), max_size=3),
    "(y(sb))": st.tuples(st.integers(0, 255), st.tuples(texts, st.booleans())),
    "a{st}": st.lists(st.tuples(texts, st.integers(0, 2**64 - 1)), max_size=3),
    "a(ya(n))": st.lists(st.tuples(st.just(7), st.lists(st.tuples(st.integers(-9, 9)), max_size=3)), max_size=3),
}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    types = draw(st.lists(st.sampled_from(sorted(values)), max_size=5))
    body = tuple(draw(values[kind]) for kind in types)
    return Message(
        draw(st.sampled_from(list(Kind))),
        draw(st.integers(1, 2**32 - 1)),
        "/org/x",
        "org.x.Y",
        draw(st.sampled_from(["Member", "Other"])),
        destination=draw(st.sampled_from(["", "org.x"])),
        reply_serial=draw(st.integers(0, 9)),
        signature="".join(types),
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


def test_an_array_of_structs_as_the_specification_lays_it_out() -> None:
    """Its size counts neither itself nor what lies before its first struct, which begins at a multiple of eight."""
    data = encode(Message(Kind.CALL, 1, "/a", "b.c", "D", signature="sa(sv)", body=("x", [("M", ("t", 5)), ("Q", ("b", True))])))
    first = b"\x01\x00\x00\x00M\x00" + b"\x01t\x00" + bytes(7) + struct.pack("<Q", 5)
    second = b"\x01\x00\x00\x00Q\x00" + b"\x01b\x00" + bytes(3) + struct.pack("<I", 1)
    assert data.endswith(b"\x01\x00\x00\x00x\x00" + bytes(2) + struct.pack("<I", len(first) + len(second)) + bytes(4) + first + second)


@pytest.mark.parametrize(
    ("signature", "types"),
    [("", []), ("sus", ["s", "u", "s"]), ("sa(sv)a(sa(sv))", ["s", "a(sv)", "a(sa(sv))"]), ("aaya{sv}", ["aay", "a{sv}"])],
)
def test_complete_types(signature: str, types: list[str]) -> None:
    assert types_of(signature) == types


@pytest.mark.parametrize("signature", ["a", "(s", "s)", "()", "a()", "z", "a{sv"])
def test_a_signature_that_is_none(signature: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        types_of(signature)


@pytest.mark.parametrize(
    ("signature", "body"), [("a()", struct.pack("<II", 4, 0)), ("as", struct.pack("<I", 100)), ("au", struct.pack("<II", 3, 0)[:-1])]
)
def test_an_array_that_does_not_end_is_refused(signature: str, body: bytes) -> None:
    """Nor does one of nothings, which would be read for ever."""
    fields = b"\x08\x01g\x00" + bytes((len(signature),)) + signature.encode() + b"\x00"
    head = struct.pack("<BBBBIII", ord("l"), 2, 0, 1, len(body), 1, len(fields)) + fields
    with pytest.raises(DbusFailed, match="malformed"):
        Decoder().feed(head + bytes(-len(head) % 8) + body)


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
