"""Values between texts of twins and Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.mappers.sdk import BadValue, Device, Property
from pinnace.mappers.sdk.properties import PROPERTY_VALUE, decode, encode


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans()))
def test_numbers_and_truth_travel_as_texts_the_edge_accepts(value: float) -> None:
    text = encode(value)
    assert PROPERTY_VALUE.fullmatch(text) or len(text) > 512
    assert decode(type(value), text) == pytest.approx(value, rel=1e-9, abs=1e-16)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "", "a b", "x" * 513, "ü", "a\n"])
def test_what_a_twin_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(BadValue):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "text"), [(int, "1.5"), (int, ""), (float, "nan"), (float, "warm"), (bool, "maybe")])
def test_a_text_of_another_kind_is_refused(kind: type, text: str) -> None:
    with pytest.raises(BadValue, match="expected"):
        decode(kind, text)


def test_declaring() -> None:
    device = Device("lamp")

    @device.writes("switch", quick=True)
    def switch(value: str) -> None:
        raise NotImplementedError

    @device.reads("switch", every_seconds=2)
    def read() -> str:
        return "ON"

    both = device.properties["switch"]
    assert (both.read, both.write, both.every_seconds, both.access.value) == (read, switch, 2, "ReadWrite")
    with pytest.raises(ValueError, match="declared twice"):
        device.add(Property("switch", str, read))
    for name in ("", "a b", "x" * 129):
        with pytest.raises(ValueError, match="property name"):
            Property(name, str, read)
    with pytest.raises(ValueError, match="read or a write function"):
        Property("switch")
