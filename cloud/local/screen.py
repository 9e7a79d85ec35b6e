"""The three lamps as text: what is wanted, what is, and how long each hop took. Pure: a journal in, lines out."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.cloud.local.journal import Journal, Place, hops
from pinnace.cloud.local.watchers import ON

WIDE = 124
"""Columns that a lamp's line needs."""
_COLOURS = {"red": "31", "yellow": "33", "green": "32"}
_SHORT = {Place.DELTA.value: "MQTT", Place.PIN.value: "pin", Place.REPORT.value: "report", Place.SHOWN.value: "API"}


def paint(text: str, *codes: str) -> str:
    """SGR codes around a text (ECMA-48)."""
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text


def disc(lamp: str, journal: Journal, *, colour: bool = False) -> str:
    """The lamp itself, as its pin is."""
    pin = journal.latest(Place.PIN, lamp)
    is_on = pin is not None and pin.value == ON
    sign = "●" if is_on else "○"
    return paint(sign, _COLOURS.get(lamp, "37"), *(("1",) if is_on else ("2",))) if colour else sign


def lamp_line(lamp: str, journal: Journal, *, colour: bool = False) -> str:
    """One lamp: desired and reported with their versions."""
    wanted, shown = (journal.latest(place, lamp) for place in (Place.WANTED, Place.SHOWN))
    agrees = wanted is not None and shown is not None and wanted.value == shown.value
    texts = [f"{lamp:<7}"]
    for word, seen in (("desired", wanted), ("reported", shown)):
        value = f"{seen.value if seen else '–':<4}"
        version = f"v{seen.version}" if seen and seen.version else ""
        texts.append(f"{word} {paint(value, '33') if colour and not agrees else value} {version:<7}")
    return "  ".join(texts)


def hop_text(lamp: str, journal: Journal) -> str:
    """`→ MQTT 2.1 → pin 0.8 → report 0.5 → API 4.0 = 7.4 ms`, as far as the value has come; nothing when it never had to travel, as at
    the start."""
    times = hops(journal.trace(lamp))
    if not times or times[0][0] != Place.DELTA.value:
        return ""
    steps = " ".join(f"→ {_SHORT[place]} {ms:.1f}" for place, ms in times)
    return f"{steps} = {sum(ms for _, ms in times):.1f} ms"


def lines(lamps: Iterable[str], journal: Journal) -> list[str]:
    """One line a lamp, plain."""
    return [f"{disc(each, journal)} {lamp_line(each, journal)}  {hop_text(each, journal)}".rstrip() for each in lamps]


def picture(lamps: Iterable[str], journal: Journal, *, columns: int = WIDE) -> list[str]:
    """The traffic light in colour, values beside each lamp, and the hops there or below them where the terminal is narrow."""
    drawn = ["╭───╮"]
    for each in lamps:
        values, times = lamp_line(each, journal, colour=True), hop_text(each, journal)
        is_wide = columns >= WIDE
        drawn.append(f"│ {disc(each, journal, colour=True)} │  {f'{values}  {times}'.rstrip() if is_wide else values.rstrip()}")
        drawn.append(f"│   │{'' if is_wide or not times else f'  {times}'}")
    return [*drawn[:-1], f"╰───╯{drawn[-1].removeprefix('│   │')}"]


def redraw(drawn: list[str], previous: int) -> str:
    """What a terminal must be sent to show `drawn` in place of the `previous` lines above the cursor. Lines are cut at its edge, as
    wrapped ones would be more lines than were counted (DECAWM, DEC STD 070)."""
    up = f"\x1b[{previous}A" if previous else ""
    return "\x1b[?7l" + up + "".join(f"\r\x1b[2K{line}\n" for line in drawn) + "\x1b[?7h"
