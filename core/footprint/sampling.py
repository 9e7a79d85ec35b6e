"""Takes a recording: runs of a warm-up and looks at a steady pace."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pinnace.core.base import version
from pinnace.core.base.errors import PinnaceError
from pinnace.core.footprint import flash
from pinnace.core.footprint.live import Look, look
from pinnace.core.footprint.record import VERSION, Run, summary

WARM_UP_SECONDS: Final = 300.0
SAMPLE_SECONDS: Final = 600.0
RUNS: Final = 3
INTERVAL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Times in seconds. `pids` are the processes to look at, none for all of the node's; `store` is where the node's database is."""

    warm_up: float = WARM_UP_SECONDS
    seconds: float = SAMPLE_SECONDS
    runs: int = RUNS
    interval: float = INTERVAL_SECONDS
    pids: Sequence[int] = ()
    store: Path = Path("/var/lib/kubeedge")


def take(
    plan: Plan,
    *,
    told: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    looked: Callable[[Sequence[int]], Look] = look,
) -> dict[str, Any]:
    """The recording as JSON. `told` hears how far it is. Raises PinnaceError when there is nothing to look at."""
    device = flash.device_of(plan.store)
    _seen(looked(plan.pids))  # rather now than after the warm-up
    runs = []
    for number in range(1, plan.runs + 1):
        told(f"run {number} of {plan.runs}: warming up for {plan.warm_up:g} s")
        sleep(plan.warm_up)
        told(f"run {number} of {plan.runs}: looking for {plan.seconds:g} s")
        runs.append(_run(plan, device, sleep, clock, looked).as_json())
    return {
        "version": VERSION,
        "kind": "footprint",
        "pinnace": version.VERSION,
        "machine": {"architecture": platform.machine(), "kernel": platform.release(), "python": platform.python_version()},
        "warm_up_seconds": plan.warm_up,
        "sample_seconds": plan.seconds,
        "interval_seconds": plan.interval,
        "device": device.name if device is not None else None,
        "runs": runs,
        "summary": summary(runs),
    }


def _run(
    plan: Plan, device: Path | None, sleep: Callable[[float], None], clock: Callable[[], float], looked: Callable[[Sequence[int]], Look]
) -> Run:
    run = Run()
    began = clock()
    count = max(round(plan.seconds / plan.interval), 1)
    for number in range(count + 1):
        sleep(max(began + number * plan.interval - clock(), 0.0))
        run.add(_seen(looked(plan.pids)), _written(device))
    return run


def _seen(found: Look) -> Look:
    if not found.uses:
        why = "; ".join(f"process {pid}: {reason}" for pid, reason in found.problems.items())
        raise PinnaceError(why or "no process of Pinnace runs here; start the edge, or name processes with --pid")
    return found


def _written(device: Path | None) -> int | None:
    with suppress(OSError):
        return flash.written_to(device) if device is not None else None
    return None


def quiet_priority() -> None:
    """Looking must not disturb what is looked at."""
    with suppress(OSError):
        os.nice(10)
