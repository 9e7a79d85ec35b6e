"""How long a container or an image that failed waits: 10 s, doubled each time up to 300 s, forgotten after 600 good seconds."""

from __future__ import annotations

from typing import Final, NamedTuple

FIRST_SECONDS: Final = 10.0
LAST_SECONDS: Final = 300.0
FORGOTTEN_AFTER_SECONDS: Final = 600.0
FOREVER: Final = float("inf")


class Delay(NamedTuple):
    """What is remembered of a thing that was tried: the wait that the next failure earns, and when it was tried last (Unix seconds)."""

    seconds: float
    tried_at: float


def due_at(delay: Delay | None, failed_at: float, now: float) -> float:
    """When what failed at `failed_at` may be tried again; `now` when at once. A clock that was set back makes nobody wait longer."""
    if delay is None or failed_at > now or _is_forgotten(delay, failed_at):
        return now  # a failure yet to come is one before the clock was set back: the next one has the new time
    return failed_at + delay.seconds


def tried(delay: Delay | None, failed_at: float, now: float) -> Delay:
    """What is to be remembered of a try that is made now, after the failure at `failed_at`."""
    if delay is None or _is_forgotten(delay, min(failed_at, now)):
        return Delay(FIRST_SECONDS, now)
    return Delay(min(delay.seconds * 2, LAST_SECONDS), now)


def _is_forgotten(delay: Delay, failed_at: float) -> bool:
    return failed_at - delay.tried_at > FORGOTTEN_AFTER_SECONDS


class Trouble(NamedTuple):
    """Why something of a pod waits, and until when (Unix seconds; infinite: until something happens). `reason` is Kubernetes' word, "" when
    the pod's status is to say nothing of it."""

    reason: str
    message: str
    until: float


def is_waiting(until: float, now: float) -> bool:
    """Whether what waits until then is to wait on at `now`. No wait is longer than the last one: what would be began before the clock was
    set back, and is over."""
    return until == FOREVER or now < until <= now + LAST_SECONDS


def duration(seconds: float) -> str:
    """As Kubernetes writes it: 10s, 2m40s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
