"""The clock: without a plausible one no certificate is valid, and a Raspberry Pi has none that goes on without power."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject

_UNSYNCHRONISED: Final = 0x40
"""STA_UNSYNC of adjtimex(2)."""
_SLACK_SECONDS: Final = 60.0
_SERVICES: Final = ("systemd-timesyncd", "chronyd", "ntpd")


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """Unix seconds. `floor` is a time that has certainly been: this program was made then, or the node's store written. `is_synchronised`
    None is unknown; `service` is what keeps time here, "" for nothing."""

    now: float
    floor: float
    is_synchronised: bool | None
    has_rtc: bool
    service: str


def read(subject: Subject) -> ClockFacts:
    store = subject.path(subject.settings.database.data_source)
    programs = Path(__file__), Path(sys.executable)  # a frozen module is no file
    floor = max(*map(_written, programs), *(_written(store.with_name(store.name + end)) for end in ("", "-wal")))
    rtcs = subject.path("/sys/class/rtc")
    return ClockFacts(
        time.time(),
        floor,
        _is_synchronised(subject),
        rtcs.is_dir() and any(rtcs.iterdir()),
        next((each for each in _SERVICES if _is_running(subject, each)), ""),
    )


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _is_synchronised(subject: Subject) -> bool | None:
    if subject.path("/run/systemd/timesync/synchronized").exists():
        return True
    if not subject.is_real:
        return False if subject.path("/run/systemd/timesync").exists() else None
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "adjtimex"):
        return None
    fields = (ctypes.c_long * 64)()  # struct timex begins with `modes`, 0 for just looking; its status is the sixth word
    if library.adjtimex(fields) < 0:
        return None
    return not int(fields[5]) & _UNSYNCHRONISED


def _is_running(subject: Subject, name: str) -> bool:
    for entry in os.scandir(subject.path("/proc")):
        if entry.name.isdigit() and subject.text(f"/proc/{entry.name}/comm") == name[:15]:
            return True
    return False


def check(facts: ClockFacts) -> Iterator[Finding]:
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.now))
    if facts.now < facts.floor - _SLACK_SECONDS:
        known = time.strftime("%Y-%m-%d", time.gmtime(facts.floor))
        text = f"{shown} cannot be: files here were written on {known}; certificates will be refused"
        yield Finding("clock", Level.ERROR, text, _remedy(facts))
    elif facts.is_synchronised is False:
        rtc = "" if facts.has_rtc else "; there is no battery-backed clock, so that it stands still without power"
        yield Finding("clock", Level.WARNING, f"{shown}, not synchronised with anybody{rtc}", _remedy(facts))
    else:
        by = f" by {facts.service}" if facts.service else ""
        state = "synchronised" + by if facts.is_synchronised else "whether it is synchronised is not to be seen here"
        yield Finding("clock", Level.OK, f"{shown}, {state}")


def _remedy(facts: ClockFacts) -> str:
    if not facts.service:
        return "apt-get install systemd-timesyncd && timedatectl set-ntp true"
    if facts.service == "systemd-timesyncd":
        return "timedatectl timesync-status  # which server, and does it answer?"
    return "chronyc makestep" if facts.service == "chronyd" else "ntpq -p"
