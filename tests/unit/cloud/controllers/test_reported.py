"""The patch that shows reports: it shows them, touches nothing else, and an old report never wins."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cloud.controllers.reported import (
    REFRESH_MS,
    Report,
    StateReport,
    known_properties,
    merge,
    overwritten,
    parse_reports,
    parse_state,
    patch_of,
    shown,
)
from pinnace.cloud.ports import Object

NAMES = st.sampled_from(["red", "yellow", "green"])
REPORTS = st.builds(
    Report,
    value=st.sampled_from(["ON", "OFF", ""]),
    type=st.sampled_from(["", "string"]),
    timestamp=st.sampled_from([0, 1_000, 2_000, REFRESH_MS * 3]),
    version=st.integers(0, 3),
    observed=st.sampled_from([None, "ON"]),
)
REPORTED = st.fixed_dictionaries({"value": st.sampled_from(["ON", "OFF"])}, optional={"metadata": st.just({"timestamp": "1000"})})
TWIN = st.fixed_dictionaries({"propertyName": NAMES}, optional={"reported": REPORTED, "observedDesired": st.just({"value": "X"})})
STATUS = st.fixed_dictionaries(
    {},
    optional={
        "twins": st.lists(TWIN, max_size=3, unique_by=lambda each: each["propertyName"]),
        "state": st.just("online"),
        "other": st.just(1),
    },
)
DEVICE = st.fixed_dictionaries(
    {"metadata": st.just({"name": "d", "namespace": "default", "resourceVersion": "7"})},
    optional={"spec": st.just({"properties": []}), "status": STATUS},
)
STATES = st.none() | st.builds(
    StateReport, state=st.sampled_from(["online", "weird"]), last_online=st.sampled_from(["", "2026-01-01T00:00:00Z"])
)


def apply(device: Object, patch: list[Object]) -> Object:
    result: Object = jsonpatch.apply_patch(copy.deepcopy(device), patch)
    return result


@given(DEVICE, st.dictionaries(NAMES, REPORTS), STATES)
def test_the_patch_shows_the_reports_and_nothing_else_changes(
    device: Object, reports: dict[str, Report], state: StateReport | None
) -> None:
    after = apply(device, patch_of(device, reports, state))
    now = shown(after)
    assert {name: now[name].value for name in reports} == {name: each.value for name, each in reports.items()}
    assert all(now[name].observed == each.observed for name, each in reports.items() if each.observed is not None)
    before = shown(device)
    assert {name: each for name, each in now.items() if name not in reports} == {
        name: each for name, each in before.items() if name not in reports
    }
    assert after.get("spec") == device.get("spec")
    assert (after.get("status") or {}).get("other") == (device.get("status") or {}).get("other")
    if state is not None:
        assert after["status"]["state"] == state.state
        assert not state.last_online or after["status"]["lastOnlineTime"] == state.last_online
    assert patch_of(after, reports, state) == [], "once is enough"


@given(DEVICE, st.dictionaries(NAMES, REPORTS, min_size=1))
def test_a_patch_made_for_another_state_fails_or_fits(device: Object, reports: dict[str, Report]) -> None:
    """Somebody turned the list around meanwhile: the patch is refused, or what it wrote is where it belongs."""
    patch = patch_of(device, reports, None)
    changed = copy.deepcopy(device)
    changed["metadata"]["resourceVersion"] = "8"
    twins = (changed.get("status") or {}).get("twins")
    if twins:
        twins.reverse()
    try:
        after = apply(changed, patch)
    except jsonpatch.JsonPatchException:
        return
    if not patch:
        return
    names = [each["propertyName"] for each in after["status"]["twins"]]
    assert len(names) == len(set(names))
    assert {name: each.value for name, each in shown(after).items() if name in reports} == {
        name: each.value for name, each in reports.items()
    }


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50))))
def test_of_reports_in_any_order_the_newest_stays(arrivals: list[tuple[int, int]]) -> None:
    """Version and time of a node with a sound clock grow together."""
    known: dict[str, Report] = {}
    for number, _ in arrivals:
        merge({"red": Report(str(number), "", number * 10, number)}, known)
    if arrivals:
        assert known["red"].value == str(max(number for number, _ in arrivals))


@pytest.mark.parametrize(
    ("newer", "older", "wins"),
    [
        (Report("B", "", 20, 2), Report("A", "", 10, 1), True),
        (Report("A", "", 10, 1), Report("B", "", 20, 2), False),
        (Report("B", "", 5, 2), Report("A", "", 10, 1), True),  # the clock was set back
        (Report("B", "", 30, 1), Report("A", "", 10, 9), True),  # the store was lost
        (Report("B", "", 20, 1), Report("A", "", 10, 1), True),  # a node that does not count
        (Report("A", "", 10, 1), Report("B", "", 20, 1), False),
        (Report("B"), Report("A", "", 10, 1), True),  # a node that says neither
    ],
)
def test_which_report_supersedes(newer: Report, older: Report, wins: bool) -> None:
    assert newer.supersedes(older) is wins


def test_a_report_without_the_desired_value_keeps_what_was_observed() -> None:
    known = {"red": Report("A", "", 1, 1, observed="ON")}
    assert merge({"red": Report("B", "", 2, 2)}, known) == {"red"}
    assert known["red"].observed == "ON"


def test_the_same_value_renews_its_time_only_now_and_then() -> None:
    device: Object = {
        "metadata": {},
        "status": {"twins": [{"propertyName": "red", "reported": {"value": "ON", "metadata": {"timestamp": "1000"}}}]},
    }
    assert patch_of(device, {"red": Report("ON", "", 1000 + REFRESH_MS - 1)}, None) == []
    assert patch_of(device, {"red": Report("ON", "", 1000 + REFRESH_MS)}, None) != []


def test_what_somebody_overwrote_is_noticed() -> None:
    known = {"red": Report("ON", "", 1, 1), "green": Report("OFF", "", 1, 1)}
    device: Object = {"metadata": {}, "status": {"twins": [{"propertyName": "red", "reported": {"value": "OFF"}}]}}
    assert overwritten(device, known, ["red", "green"]) == {"red", "green"}
    assert overwritten(device, known, ["red"]) == {"red"}
    assert overwritten({"metadata": {}}, {}, ["red"]) == set()


def test_properties_come_from_the_model_the_spec_and_what_is_shown() -> None:
    device: Object = {"spec": {"properties": [{"name": "a"}]}, "status": {"twins": [{"propertyName": "b"}]}}
    assert known_properties(device, {"spec": {"properties": [{"name": "c"}, {}]}}) == {"a", "b", "c"}
    assert known_properties({}, None) == set()


@pytest.mark.parametrize("content", [None, [], "text", {}, {"twin": []}, {"twin": None}])
def test_what_is_no_report_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="no `twin`"):
        parse_reports(content)


@pytest.mark.parametrize("content", [None, {}, {"device": {}}, {"device": {"state": 1}}, {"device": []}])
def test_what_is_no_state_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match=r"no `device\.state`"):
        parse_state(content)


def test_half_a_report_counts_as_far_as_it_goes() -> None:
    twin = {
        "a": None,
        "b": {},
        "c": {"actual": {"value": 1}},
        "d": {"actual": {"value": "x", "metadata": [], "timestamp": 1}},
        "e": {"actual": None},
    }
    assert parse_reports({"twin": twin}) == {"d": Report("x")}
    full = {"actual": {"value": "x", "metadata": {"timestamp": "12"}}, "metadata": {"type": "int"}, "actual_version": {"edge": 3}}
    assert parse_reports({"twin": {"a": full | {"expected": {"value": "y"}}}}) == {"a": Report("x", "int", 12, 3, "y")}
    assert parse_state({"timestamp": 5, "device": {"state": "ok", "lastOnlineTime": 3}}) == StateReport("ok", "", 5)
