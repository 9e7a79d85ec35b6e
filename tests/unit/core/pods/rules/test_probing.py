"""Thresholds, against a plain reading of the API's words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.pods.rules.probing import Outcome, ProbeSpec, Tally, counted, probe_spec


def spec(success: int, failure: int) -> ProbeSpec:
    found = probe_spec({"exec": {"command": ["x"]}, "successThreshold": success, "failureThreshold": failure})
    assert found is not None
    return found


def test_defaults_are_the_api_s() -> None:
    found = probe_spec({"tcpSocket": {"port": 80}})
    assert found == ProbeSpec("tcpSocket", {"port": 80}, 0.0, 10.0, 1.0, 1, 3)
    assert probe_spec({"periodSeconds": 3}) is None
    assert probe_spec({"exec": {}, "timeoutSeconds": 0}) == ProbeSpec("exec", {}, 0.0, 10.0, 1.0, 1, 3)


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.sampled_from(list(Outcome)), max_size=30))
def test_the_verdict_follows_rows_of_equal_results(success: int, failure: int, outcomes: list[Outcome]) -> None:
    probe, tally = spec(success, failure), Tally()
    seen: list[bool] = []
    expected: bool | None = None
    for outcome in outcomes:
        tally = counted(tally, outcome, probe)
        if outcome is not Outcome.UNKNOWN:
            seen.append(outcome is not Outcome.FAILURE)
        for verdict, needed in ((True, success), (False, failure)):
            if seen[-needed:] == [verdict] * needed:
                expected = verdict
        assert tally.verdict is expected
