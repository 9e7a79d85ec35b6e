"""A probe's thresholds: what a row of single results means (Kubernetes API, core/v1 Probe). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from pinnace.core.base.pod import Object

_METHODS: Final = ("exec", "httpGet", "tcpSocket", "grpc")


class Outcome(Enum):
    """What one look at a container said. WARNING counts as success, and the message is told."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """It could not be found out (the runtime did not answer): counts for nothing."""


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """A probe with the API's defaults where the pod came without them. `method` is exec, httpGet, tcpSocket or grpc, `action` its part
    of the spec; times are seconds."""

    method: str
    action: Object
    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int


def probe_spec(probe: Object) -> ProbeSpec | None:
    """None when it names no known method: such a probe is no probe."""
    method = next((each for each in _METHODS if probe.get(each) is not None), None)
    if method is None:
        return None
    return ProbeSpec(
        method,
        probe[method],
        initial_delay=max(float(probe.get("initialDelaySeconds") or 0), 0.0),
        period=max(float(probe.get("periodSeconds") or 10), 1.0),
        timeout=max(float(probe.get("timeoutSeconds") or 1), 1.0),
        success_threshold=max(int(probe.get("successThreshold") or 1), 1),
        failure_threshold=max(int(probe.get("failureThreshold") or 3), 1),
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """A verdict, None before the first, and the row of equal results behind it."""

    verdict: bool | None = None
    last: bool | None = None
    run: int = 0


def counted(tally: Tally, outcome: Outcome, spec: ProbeSpec) -> Tally:
    """The tally after one more result: the verdict follows when enough equal ones came in a row."""
    if outcome is Outcome.UNKNOWN:
        return tally
    is_success = outcome is not Outcome.FAILURE
    run = tally.run + 1 if tally.last is is_success else 1
    needed = spec.success_threshold if is_success else spec.failure_threshold
    return Tally(is_success if run >= needed else tally.verdict, is_success, min(run, needed))
