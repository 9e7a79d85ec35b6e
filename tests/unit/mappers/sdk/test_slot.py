"""What to do with wanted values, and what to say: decisions without waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pinnace.mappers.sdk.reports import Reports
from pinnace.mappers.sdk.slot import Slot


def test_a_wanted_value_is_done_once() -> None:
    slot = Slot()
    assert slot.want("ON")
    assert not slot.want("ON")
    slot.applied("ON")
    slot.seen("ON")
    assert not slot.want("ON")
    assert slot.wanted is None


def test_a_newer_wish_survives_the_end_of_an_older_write() -> None:
    slot = Slot()
    slot.want("ON")
    slot.want("OFF")
    slot.applied("ON")
    assert slot.wanted == "OFF"


def test_a_refused_value_is_not_tried_again_until_another_was_wanted() -> None:
    slot = Slot()
    slot.want("PURPLE")
    slot.refuse("PURPLE", "no such colour")
    assert not slot.want("PURPLE")
    assert slot.want("ON")
    slot.applied("ON")
    assert slot.want("PURPLE")


def test_a_fault_is_news_once() -> None:
    slot = Slot()
    assert slot.failed("no answer")
    assert not slot.failed("no answer")
    slot.applied("ON")
    assert slot.failed("no answer")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 5)),
            st.just(("depart",)),
            st.just(("arrive",)),
            st.just(("lose",)),
        )
    )
)
def test_the_edge_hears_the_newest_value_of_everything_and_nothing_else(steps: list[tuple[object, ...]]) -> None:
    reports = Reports("x")
    newest: dict[str, str] = {}
    heard: dict[str, str] = {}
    flight: tuple[str, dict[str, str]] | None = None
    for step in steps:
        if step[0] == "put":
            newest[str(step[1])] = str(step[2])
            reports.put({str(step[1]): str(step[2])})
        elif step[0] == "depart":
            flight = reports.depart() or flight
        elif step[0] == "arrive" and flight is not None:
            if reports.arrive(flight[0]):
                heard |= flight[1]
            flight = None
        elif step[0] == "lose":
            reports.lose()
            flight = None
    reports.lose()
    if last := reports.depart():
        heard |= last[1]
    assert heard == newest
