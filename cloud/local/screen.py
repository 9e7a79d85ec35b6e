"""The three lamps as text: what is wanted, what is, and how long each hop took. Pure: a journal in, lines out."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.cloud.local.journal import Journal, Place, hops
from pinnace.cloud.local.watchers import ON

_COLOURS = {"red": "31", "yellow": "33", "green": "32"}
_SHORT = {Place.DELTA.value: "MQTT", Place.PIN.value: "pin", Place.REPORT.value: "report", Place.SHOWN.value: "API"}


def paint(text: str, *codes: str) -> str:
    """SGR codes around a text (ECMA-48)."""
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text


def lamp_line(lamp: str, journal: Journal, *, colour: bool) -> str:
    """One lamp: its pin, desired and reported with their versions, and the times of the hops of the last change."""
    wanted, pin, shown = (journal.latest(place, lamp) for place in (Place.WANTED, Place.PIN, Place.SHOWN))
    is_on = pin is not None and pin.value == ON
    disc = "●" if is_on else "○"
    if colour:
        disc = paint(disc, _COLOURS.get(lamp, "37"), *(("1",) if is_on else ("2",)))
    agrees = wanted is not None and shown is not None and wanted.value == shown.value
    texts = [f"{disc} {lamp:<7}"]
    for word, seen in (("desired", wanted), ("reported", shown)):
        value = seen.value if seen else "–"
        version = f"v{seen.version}" if seen and seen.version else ""
        padded = f"{value:<4}"
        texts.append(f"{word} {paint(padded, '33') if colour and not agrees else padded} {version:<7}")
    return "  ".join([*texts, hop_text(lamp, journal)]).rstrip()


def hop_text(lamp: str, journal: Journal) -> str:
    """`→ MQTT 2.1 → pin 0.8 → report 0.5 → API 4.0 = 7.4 ms`, as far as the value has come."""
    times = hops(journal.trace(lamp))
    if not times:
        return ""
    steps = " ".join(f"→ {_SHORT[place]} {ms:.1f}" for place, ms in times)
    return f"{steps} = {sum(ms for _, ms in times):.1f} ms"


def lines(lamps: Iterable[str], journal: Journal, *, colour: bool) -> list[str]:
    return [lamp_line(each, journal, colour=colour) for each in lamps]


def redraw(drawn: list[str], previous: int) -> str:
    """What a terminal must be sent to show `drawn` in place of the `previous` lines above the cursor."""
    up = f"\x1b[{previous}A" if previous else ""
    return up + "".join(f"\r\x1b[2K{line}\n" for line in drawn)
