"""Both builds of the twin diff against vectors, and against a simple model of what twins are."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.ext import _build, twindiff_py
from pinnace.ext import twindiff as facade
from pinnace.ext.errors import TwinError
from pinnace.ext.records import Outcome

VECTORS = Path(__file__).parents[2] / "vectors" / "twins"
SCENARIOS = sorted(path.name for path in VECTORS.glob("*.json") if path.name != "refused.json")
REFUSED = [tuple(case) for case in json.loads((VECTORS / "refused.json").read_text())["cases"]]


def test_the_facade_gives_the_build_asked_for() -> None:
    assert facade.DeviceTwins.__module__ == ("pinnace.ext.twindiff_py" if _build.PURE else "pinnace.ext.twindiff_c")


def fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in outcome.__slots__}


def value(members: bytes) -> Any:
    return json.loads(b"{" + members + b"}")


@pytest.mark.parametrize("name", SCENARIOS)
def test_vectors(twindiff: ModuleType, name: str) -> None:
    twins = twindiff.DeviceTwins()
    for step in json.loads((VECTORS / name).read_text())["steps"]:
        if "update" in step:
            outcome = twins.apply_update(step["update"].encode(), step["at"])
            assert outcome.result == step["result"].encode()
        else:
            outcome = twins.apply_desired(step["desired"].encode(), step["at"], step.get("version", -1))
            assert outcome.result == b""
        assert outcome.event_id == step["event_id"]
        assert outcome.document == step["document"].encode()
        assert outcome.delta == twins.delta() == step["delta"].encode()
        assert list(outcome.rows) == step["rows"]
        assert outcome.reports == {key: text.encode() for key, text in step["reports"].items()}
        assert [key for key, _ in outcome.refused] == step.get("refused", [])


@pytest.mark.parametrize(("payload", "event_id"), REFUSED)
def test_refuses(twindiff: ModuleType, payload: str, event_id: str) -> None:
    twins = twindiff.DeviceTwins()
    twins.apply_desired(b'{"twin":{"fixed":{"expected":{"value":"1"},"optional":false,"metadata":{"type":"int"}}}}', 1)
    before = twins.members()
    with pytest.raises(TwinError) as caught:
        twins.apply_update(payload.encode(), 2)
    assert (caught.value.code, caught.value.event_id) == (400, event_id)
    assert str(caught.value)
    assert twins.members() == before
    assert twins.names() == ["fixed"]


def test_limits(twindiff: ModuleType) -> None:
    twins = twindiff.DeviceTwins()

    def report(name: str, text: str) -> None:
        twins.apply_update(json.dumps({"twin": {name: {"actual": {"value": text}}}}).encode(), 1)

    report("n" * 128, "v" * 512)
    report("empty", "")
    for name, text in (("n" * 129, "v"), ("n", "v" * 513), ("\u00e9" * 3, "v")):
        with pytest.raises(TwinError):
            report(name, text)
    deep = b'{"x":' + b"[" * 99 + b"]" * 99 + b',"twin":{}}'
    assert twins.apply_update(deep, 1).result == b'"twin":{}'
    with pytest.raises(TwinError, match="levels"):
        twins.apply_update(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b',"twin":{}}', 1)


def test_holds_no_more_than_its_bound_and_forgets_deleted_ones_first(twindiff: ModuleType) -> None:
    twins = twindiff.DeviceTwins()
    for start in range(0, twindiff.MAX_TWINS, 100):
        twins.apply_update(json.dumps({"twin": {f"p{at}": {"actual": {"value": "1"}} for at in range(start, start + 100)}}).encode(), 1)
    one_more = b'{"twin":{"more":{"actual":{"value":"1"}}}}'
    with pytest.raises(TwinError, match="at most"):
        twins.apply_update(one_more, 2)
    assert twins.apply_desired(b'{"twin":{"wish":{"expected":{"value":"1"}}}}', 2).refused
    twins.apply_update(b'{"twin":{"p7":null}}', 3)
    twins.apply_update(one_more, 4)
    assert len(twins) == twindiff.MAX_TWINS
    assert "p7" not in twins.names()
    assert twins.names() == sorted(twins.names())


def test_a_whole_device_takes_back_what_it_no_longer_names(twindiff: ModuleType) -> None:
    twins = twindiff.DeviceTwins()
    both = b'{"twin":{"a":{"expected":{"value":"1"},"optional":false},"b":{"expected":{"value":"1"},"optional":false}}}'
    twins.apply_desired(both, 1, 10)
    twins.apply_update(b'{"twin":{"a":{"actual":{"value":"0"}},"own":{"expected":{"value":"x"}}}}', 2)
    outcome = twins.apply_desired(b'{"twin":{}}', 3, 11)
    assert value(outcome.document)["twin"].keys() == {"a", "b"}
    assert value(outcome.document)["twin"]["b"]["current"] is None
    assert value(twins.members())["twin"]["a"] == {
        "actual": {"value": "0", "metadata": {"timestamp": 2}}, "optional": True, "metadata": {"type": "string"},
    }  # fmt: skip
    assert twins.names() == ["a", "own"]
    outcome = twins.apply_desired(both, 4, 10)
    assert [name for name, _ in outcome.refused] == ["a", "b"]
    assert twins.version() == 11


def test_a_value_that_does_not_fit_its_type_is_refused_alone(twindiff: ModuleType) -> None:
    twins = twindiff.DeviceTwins()
    outcome = twins.apply_desired(
        b'{"twin":{"n":{"expected":{"value":"ON"},"metadata":{"type":"int"}},"t":{"expected":{"value":"ON"},"metadata":{"type":"string"}}}}',
        1,
        5,
    )
    assert outcome.refused == [("n", "the value is no whole number")]
    assert twins.names() == ["t"]


def test_rows_that_cannot_be_read_are_left_out(twindiff: ModuleType) -> None:
    twins = twindiff.DeviceTwins()
    failed = twins.load({"good": b'{"actual":{"value":"1"},"optional":true,"metadata":{"type":"string"}}', "bad": b"{", "worse": b"\xff"})
    assert failed.keys() == {"bad", "worse"}
    assert twins.names() == ["good"]


def test_messages(twindiff: ModuleType) -> None:
    assert twindiff.message('a"<\u2028\u00e9', 12, b"") == b'{"event_id":"a\\"\\u003c\\u2028\xc3\xa9","timestamp":12}'
    assert twindiff.message("", 0, b'"x":1') == b'{"event_id":"","timestamp":0,"x":1}'
    assert twindiff.twin_members({"b": b"2", "a&": b"1"}) == b'"twin":{"a\\u0026":1,"b":2}'


# --- Against a model ---

NAMES = st.sampled_from(["a", "b", "c/d", "E"])
TEXTS = st.sampled_from(["ON", "OFF", "1", "", "a.b:c"])


class Model:
    """Twins as plain dictionaries; values only, no times."""

    def __init__(self) -> None:
        self.desired: dict[str, str] = {}
        self.cloud: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.reported: dict[str, str] = {}
        self.live: set[str] = set()
        self.fixed: set[str] = set()

    def update(self, twin: dict[str, Any]) -> bool:
        """False when the update is refused."""
        if any(change is None and name in self.live and name in self.fixed for name, change in twin.items()):
            return False
        for name, change in twin.items():
            if change is None:
                self.desired.pop(name, None)
                self.cloud.pop(name, None)
                self.reported.pop(name, None)
                self.live.discard(name)
                continue
            self.live.add(name)
            if "actual" in change:
                self.reported[name] = change["actual"]["value"]
            if "expected" in change:
                self.desired[name] = change["expected"]["value"]
        return True

    def want(self, name: str, text: str, version: int) -> None:
        if version < self.versions.get(name, 0):
            return
        if not text and name not in self.versions and name not in self.live:
            return
        if text or name in self.live or name in self.versions:
            self.versions[name] = version
        if text == self.cloud.get(name, ""):
            if text:
                self.live.add(name)
                self.fixed.add(name)
            return
        if text:
            self.cloud[name] = text
            self.desired[name] = text
            self.live.add(name)
            self.fixed.add(name)
        else:
            self.cloud.pop(name)
            self.desired.pop(name, None)
            self.fixed.discard(name)
            if name not in self.reported:
                self.live.discard(name)

    def delta(self) -> dict[str, str]:
        return {name: text for name, text in self.desired.items() if text and self.reported.get(name, "") != text}


VALUES = st.fixed_dictionaries({"value": TEXTS})
CHANGES = st.dictionaries(
    NAMES,
    st.none() | st.fixed_dictionaries({}, optional={"actual": VALUES, "expected": VALUES}),
    max_size=3,
)
STEPS = st.lists(CHANGES | st.tuples(NAMES, TEXTS, st.integers(1, 9)) | st.just("reload"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_agrees_with_the_model(twindiff: ModuleType, steps: list[Any]) -> None:
    twins, model = twindiff.DeviceTwins(), Model()
    disk: dict[str, bytes] = {}
    for now, step in enumerate(steps, 1):
        if step == "reload":
            twins = twindiff.DeviceTwins()
            assert twins.load(disk) == {}
        elif isinstance(step, tuple):
            name, text, version = step
            twin = {name: {"expected": {"value": text}, "optional": False, "expected_version": {"cloud": version, "edge": 0}}}
            disk.update(twins.apply_desired(json.dumps({"twin": twin}).encode(), now).rows)
            model.want(name, text, version)
        elif model.update(step):
            before = value(twins.members())["twin"]
            outcome = twins.apply_update(json.dumps({"twin": step}).encode(), now)
            disk.update(outcome.rows)
            check_told(outcome, step, before, value(twins.members())["twin"], now)
        else:
            with pytest.raises(TwinError):
                twins.apply_update(json.dumps({"twin": step}).encode(), now)
        held = value(twins.members())["twin"]
        assert held.keys() == model.live
        for name, twin in held.items():
            assert twin.get("expected", {}).get("value", "") == model.desired.get(name, "")
            assert twin.get("actual", {}).get("value") == model.reported.get(name)
        delta = twins.delta()
        assert (value(delta)["delta"] if delta else {}) == model.delta()
        if delta:
            assert value(delta)["twin"] == {name: twin for name, twin in held.items() if "expected" in twin}


def check_told(outcome: Outcome, twin: dict[str, Any], before: dict[str, Any], after: dict[str, Any], now: int) -> None:
    """The result tells what was said, the document how it was and is, and only what changed is stored and reported."""
    document = value(outcome.document)["twin"] if outcome.document else {}
    for name, each in document.items():
        assert each == {"last": before.get(name), "current": after.get(name)}
    result = value(outcome.result)["twin"]
    assert result.keys() == document.keys()
    for name, change in twin.items():
        if change is None:
            assert name not in before or result[name] is None
            continue
        for part in ("actual", "expected"):
            if part in change and (part == "actual" or change[part]["value"]):
                assert result[name][part] == {"value": change[part]["value"], "metadata": {"timestamp": now}}
    changed = {name for name in document if values_of(before.get(name)) != values_of(after.get(name))}
    assert changed == set(outcome.rows)
    assert set(outcome.reports) <= changed
    for name in changed & after.keys():
        if values_of(after[name])[1] != values_of(before.get(name))[1]:
            assert value(b'"x":' + outcome.reports[name])["x"]["actual"] == after[name]["actual"]


def values_of(twin: dict[str, Any] | None) -> tuple[Any, Any, bool]:
    if twin is None:
        return None, None, False
    return twin.get("expected", {}).get("value"), twin.get("actual", {}).get("value"), True


# --- One build against the other ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**64) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["twin", "Twin", "event_id", "timestamp", "actual", "expected", "value", "metadata", "type", "optional", "a", "é",
                         "expected_version", "actual_version", "cloud", "edge"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


CUTS = st.none() | st.tuples(st.integers(0, 200), st.binary(max_size=3))


def outcome_of(twins: Any, payload: bytes, *, is_desired: bool) -> Any:
    try:
        return fields(twins.apply_desired(payload, 3, 7) if is_desired else twins.apply_update(payload, 3))
    except TwinError as error:
        return str(error), error.code, error.event_id


@settings(max_examples=500, deadline=None)
@given(content=JSON, is_wrapped=st.booleans(), is_ascii=st.booleans(), cut=CUTS)
def test_builds_agree_on_anything(
    twindiff: ModuleType, content: Any, is_wrapped: bool, is_ascii: bool, cut: tuple[int, bytes] | None
) -> None:
    payload = json.dumps({"twin": {"a": content}} if is_wrapped else content, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    if cut is not None:
        at, put = cut
        payload = payload[:at] + put + payload[at + len(put) :]
    for is_desired in (False, True):
        one, other = twindiff_py.DeviceTwins(), twindiff.DeviceTwins()
        assert outcome_of(one, payload, is_desired=is_desired) == outcome_of(other, payload, is_desired=is_desired)
        assert one.members() == other.members()


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=40) | st.text(alphabet='{}[]":,twina e\\u0019.-+tfn', max_size=60).map(str.encode))
def test_accepts_only_json(twindiff: ModuleType, payload: bytes) -> None:
    try:
        twindiff.DeviceTwins().apply_update(payload, 1)
    except TwinError:
        return
    assert isinstance(json.loads(payload), dict)
