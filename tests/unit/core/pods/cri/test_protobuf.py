"""Messages as bytes, held to an encoder of another hand and to the specification's own numbers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import protobuf as oracle

from pinnace.core.pods.cri import messages
from pinnace.core.pods.cri.protobuf import Malformed, Message, blob, flag, pairs, part, parts, signed, signeds, text, texts, unsigned


class Inner(Message):
    name: str = text(1)
    number: int = signed(2)


class Outer(Message):
    name: str = text(1)
    names: tuple[str, ...] = texts(2)
    content: bytes = blob(3)
    number: int = signed(4)
    numbers: tuple[int, ...] = signeds(5)
    count: int = unsigned(6)
    is_so: bool = flag(7)
    labels: Mapping[str, str] = pairs(8)
    inner: Inner | None = part(9, Inner)
    inners: tuple[Inner, ...] = parts(1000, Inner)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
INNERS = st.builds(Inner, name=WORDS, number=NUMBERS)
OUTERS = st.builds(
    Outer,
    name=WORDS,
    names=st.lists(WORDS, max_size=3).map(tuple),
    content=st.binary(max_size=20),
    number=NUMBERS,
    numbers=st.lists(NUMBERS, max_size=3).map(tuple),
    count=st.integers(0, 2**64 - 1),
    is_so=st.booleans(),
    labels=st.dictionaries(WORDS, WORDS, max_size=3),
    inner=st.none() | INNERS,
    inners=st.lists(INNERS, max_size=3).map(tuple),
)


@given(OUTERS)
def test_what_is_written_is_read(message: Outer) -> None:
    again = Outer.decode(message.encode())
    for name in Outer.__annotations__:
        assert getattr(again, name) == getattr(message, name)


@given(WORDS, NUMBERS, st.integers(0, 2**64 - 1), st.booleans(), st.binary(max_size=300))
def test_bytes_are_those_of_another_encoder(name: str, number: int, count: int, is_so: bool, content: bytes) -> None:
    message = Outer(name=name, content=content, number=number, count=count, is_so=is_so)
    fields: list[oracle.Field] = [(1, name.encode()), (3, content), (4, number % 2**64), (6, count), (7, int(is_so))]
    assert message.encode() == oracle.written((key, value) for key, value in fields if value)


def test_bytes_by_hand() -> None:
    assert Outer(number=-1).encode() == b"\x20" + b"\xff" * 9 + b"\x01"
    assert Outer(numbers=(0, 150)).encode() == b"\x2a\x03\x00\x96\x01"
    assert Outer(labels={"a": ""}).encode() == b"\x42\x05\x0a\x01a\x12\x00"
    assert Outer(inner=Inner()).encode() == b"\x4a\x00"
    assert Outer(names=("", "b")).encode() == b"\x12\x00\x12\x01b"
    assert Outer(name="", number=0, is_so=False, names=(), inner=None).encode() == b""


def test_presence_of_a_part_is_kept() -> None:
    assert Outer.decode(b"").inner is None
    assert Outer.decode(b"\x4a\x00").inner == Inner()
    assert messages.LinuxContainerSecurityContext(run_as_user=messages.Int64Value(value=0)).encode() == b"\x2a\x00"


def test_numbers_come_one_by_one_or_packed() -> None:
    assert Outer.decode(b"\x28\x01\x2a\x02\x02\x03\x28\x04").numbers == (1, 2, 3, 4)


def test_last_of_a_single_field_wins() -> None:
    assert Outer.decode(b"\x20\x01\x20\x02").number == 2


def test_fields_that_are_not_known_or_of_another_type_are_passed_over() -> None:
    unknown = b"\xa0\x06\x07" + b"\xa2\x06\x02xy" + b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4) + b"\x08\x01" + b"\x22\x01x"
    assert Outer.decode(unknown + b"\x0a\x01n").name == "n"
    assert vars(Outer.decode(unknown)) == {}


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\x0a", b"\x0a\x05ab", b"\x0a\xff\xff\xff\xff\x0f", b"\x20" + b"\x80" * 10, b"\x0b", b"\x0c", b"\x00\x01",
     b"\x21abc", b"\x25a", b"\x4a\x01\x80", b"\x2a\x01\x80", b"\x42\x02\x0a\x05"],
)  # fmt: skip
def test_broken_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Outer.decode(data)


def test_text_that_is_no_utf8_is_shown_as_well_as_can_be() -> None:
    assert Outer.decode(b"\x0a\x02a\xff").name == "a\ufffd"


def test_field_that_does_not_exist_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="Inner has no field nmae"):
        Inner(nmae="x")


def test_defaults_are_of_the_class() -> None:
    message = Outer()
    assert (message.name, message.names, message.number, message.is_so, message.inner, dict(message.labels)) == ("", (), 0, False, None, {})


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (messages.PodSandboxConfig, {"metadata": 1, "hostname": 2, "log_directory": 3, "dns_config": 4, "port_mappings": 5, "linux": 8}),
        (messages.ContainerConfig, {"command": 3, "args": 4, "envs": 6, "mounts": 7, "devices": 8, "log_path": 11, "tty": 14, "linux": 15}),
        (messages.ContainerStatus, {"state": 3, "finished_at": 6, "exit_code": 7, "image_ref": 9, "reason": 10, "log_path": 15}),
        (
            messages.LinuxContainerSecurityContext,
            {"run_as_user": 5, "run_as_group": 12, "supplemental_groups": 8, "no_new_privs": 11, "masked_paths": 13, "seccomp": 15},
        ),
    ],
)
def test_field_numbers_of_cri(kind: type[Message], numbers: dict[str, int]) -> None:
    assert {name: kind._by_name[name].number for name in numbers} == numbers
