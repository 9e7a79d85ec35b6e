"""Sightings, waiting for them, and the lamps as text."""

from __future__ import annotations

import asyncio
import re

import pytest

from pinnace.cloud.local import screen
from pinnace.cloud.local.journal import Journal, NotSeen, Place, Sighting, hops

SGR = re.compile(r"\x1b\[[0-9;]*m")


async def journal_of(*sightings: Sighting) -> Journal:
    journal = Journal()
    for each in sightings:
        await journal.note(each)
    return journal


WAY = [
    Sighting(Place.WANTED, "red", "ON", 100.0, "17"),
    Sighting(Place.DELTA, "red", "ON", 100.002),
    Sighting(Place.PIN, "red", "ON", 100.003),
    Sighting(Place.REPORT, "red", "ON", 100.0035),
    Sighting(Place.SHOWN, "red", "ON", 100.01, "4"),
]


async def test_a_value_is_followed_through_all_places() -> None:
    journal = await journal_of(Sighting(Place.PIN, "red", "OFF", 1.0), *WAY)
    assert journal.trace("red") == WAY
    assert [round(ms, 3) for _, ms in hops(journal.trace("red"))] == [2.0, 1.0, 0.5, 6.5]
    values, times = "● red      desired ON   v17      reported ON   v4", "→ MQTT 2.0 → pin 1.0 → report 0.5 → API 6.5 = 10.0 ms"
    assert screen.lines(["red"], journal) == [f"{values}       {times}"]
    wide, narrow = ([SGR.sub("", line).rstrip() for line in screen.picture(["red", "green"], journal, columns=each)] for each in (124, 80))
    lamps = [f"│ ● │  {values[2:]}", "│ ○ │  green    desired –             reported –"]
    assert wide == ["╭───╮", f"{lamps[0]}       {times}", "│   │", lamps[1], "╰───╯"]
    assert narrow == ["╭───╮", lamps[0], f"│   │  {times}", lamps[1], "╰───╯"]
    assert max(map(len, narrow)) <= 80


async def test_the_times_of_the_last_lamp_stand_beside_the_foot() -> None:
    assert screen.picture(["red"], await journal_of(*WAY), columns=80)[-1] == "╰───╯  → MQTT 2.0 → pin 1.0 → report 0.5 → API 6.5 = 10.0 ms"


async def test_a_value_that_never_travelled_has_no_times() -> None:
    journal = await journal_of(WAY[0], WAY[2], WAY[4])
    assert screen.hop_text("red", journal) == ""


async def test_what_was_seen_for_an_earlier_wish_is_not_part_of_the_trace() -> None:
    journal = await journal_of(*WAY, Sighting(Place.WANTED, "red", "OFF", 200.0, "20"), Sighting(Place.DELTA, "red", "OFF", 200.1))
    assert [each.place for each in journal.trace("red")] == [Place.WANTED, Place.DELTA]
    line = screen.picture(["red"], journal)[1]
    assert "\x1b[31;1m●\x1b[0m" in line
    assert "\x1b[33mOFF \x1b[0m" in line


async def test_a_watcher_that_was_late_takes_from_the_next_hop_only() -> None:
    early = Sighting(Place.DELTA, "red", "ON", 99.9)
    late = Sighting(Place.DELTA, "red", "ON", 100.005)
    for delta, expected in ((early, [0.0, 3.0, 0.5, 6.5]), (late, [5.0, 0.0, 0.0, 5.0])):
        journal = await journal_of(delta, *WAY)
        assert [round(ms, 3) for _, ms in hops(journal.trace("red"))] == expected


def test_nothing_seen_is_drawn_as_nothing() -> None:
    assert screen.lines(["red"], Journal()) == ["○ red      desired –             reported –"]


async def test_the_same_value_again_is_no_news() -> None:
    journal = await journal_of(WAY[0], Sighting(Place.WANTED, "red", "ON", 300.0, "99"))
    assert journal.version == 1
    assert journal.since(0, "red") == WAY[:1]


async def test_what_a_place_shows_no_more_is_forgotten() -> None:
    journal = await journal_of(*WAY, Sighting(Place.SHOWN, "green", "ON", 101.0))
    version = journal.version
    await journal.forget(Place.SHOWN, but={"red", "green"})
    assert journal.version == version
    await journal.forget(Place.SHOWN, but={"green"})
    await journal.changed(version)
    assert journal.latest(Place.SHOWN, "red") is None
    assert journal.latest(Place.SHOWN, "green") is not None
    assert journal.latest(Place.PIN, "red") == WAY[2]


async def test_waiting_ends_with_the_sighting_or_says_what_was_not_seen() -> None:
    journal = Journal()
    waiting = asyncio.create_task(journal.sees(Place.PIN, "red", "ON", seconds=20))
    for each in WAY:
        await journal.note(each)
    assert await waiting == WAY[2]
    with pytest.raises(NotSeen, match=r"not seen within 0\.01 s: red OFF: pin"):
        await journal.sees(Place.PIN, "red", "OFF", seconds=0.01)


def test_a_redraw_goes_up_as_many_lines_as_were_drawn() -> None:
    assert screen.redraw(["a", "b"], 0) == "\x1b[?7l\r\x1b[2Ka\n\r\x1b[2Kb\n\x1b[?7h"
    assert screen.redraw(["a"], 2) == "\x1b[?7l\x1b[2A\r\x1b[2Ka\n\x1b[?7h"
