"""What `pinnace up --once` does and must see: every lamp on and off, and a change made while the edge is cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pinnace.cloud.local.journal import Journal, NotSeen, Place
from pinnace.cloud.local.screen import hop_text
from pinnace.cloud.local.stack import LAMPS, Stack
from pinnace.cloud.local.watchers import OFF, ON, MqttWatch
from pinnace.core.base.errors import PinnaceError

SECONDS = 30.0
"""The longest that anything may take to be seen."""
CUT_LOOKS = 10
"""How often the cut-off edge is asked what it has, before it is believed that nothing arrived."""
CUT_PAUSE = 0.1
HIDDEN = "green"
"""The lamp whose desired value changes while the edge is cut off."""


class Script:
    """`run` does the steps, one line each; it raises PinnaceError at the first that was not seen to happen."""

    def __init__(self, stack: Stack, journal: Journal, mqtt: MqttWatch, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._journal = journal
        self._mqtt = mqtt
        self._say = say
        self._step = 0

    async def run(self) -> None:
        if self._stack.mapper_pod:
            self._seen(f"the mapper runs in pod {self._stack.mapper_pod}, from the sample's Deployment as it stands, its image imported")
        for lamp in LAMPS:
            await self._agrees(lamp, OFF)
        self._seen("the traffic light is applied: red, yellow and green are OFF, desired, at their pins, and reported in the API")
        for lamp in LAMPS:
            for value in (ON, OFF):
                await self._switch(lamp, value)
        await self._cut()
        await self._change_unseen()
        await self._mend()

    async def _switch(self, lamp: str, value: str) -> None:
        began = await self._stack.set_desired(lamp, value)
        seen = {place: await self._journal.sees(place, lamp, value, seconds=SECONDS) for place in Place}
        pin, shown = (f"{(seen[place].at - began) * 1000:.1f} ms" for place in (Place.PIN, Place.SHOWN))
        self._seen(
            f"{lamp} {value}: written to the API, pin BCM {LAMPS[lamp]} {self._level(value)} after {pin}, "
            f"reported in the API after {shown} ({hop_text(lamp, self._journal)})"
        )

    async def _cut(self) -> None:
        assert self._stack.relay is not None
        if not self._stack.relay.lines:
            raise PinnaceError("the edge's connection does not go through the relay")
        count = await self._stack.relay.cut()
        self._seen(f"the edge is cut off: {count} connection{'s' * (count != 1)} to the cloud reset, new ones refused")

    async def _change_unseen(self) -> None:
        began = await self._stack.set_desired(HIDDEN, ON)
        await self._journal.sees(Place.WANTED, HIDDEN, ON, seconds=SECONDS)
        for _ in range(CUT_LOOKS):
            held = (await self._mqtt.ask(seconds=SECONDS)).get(HIDDEN)
            if held != OFF:
                raise PinnaceError(f"{HIDDEN}: the edge has desired {held} although it is cut off")
            await asyncio.sleep(CUT_PAUSE)
        seen = [each for each in self._journal.since(began, HIDDEN) if each.place is not Place.WANTED]
        if seen:
            raise PinnaceError(f"{HIDDEN}: {seen[0].value} arrived at {seen[0].place.value} although the edge is cut off")
        self._seen(
            f"{HIDDEN} ON: written to the API while the edge is cut off; nothing arrived in {time.time() - began:.1f} s, the edge still "
            f"answers mappers (desired {HIDDEN} OFF, asked {CUT_LOOKS} times), pin BCM {LAMPS[HIDDEN]} low"
        )

    async def _mend(self) -> None:
        assert self._stack.relay is not None
        began = time.time()
        await self._stack.relay.mend()
        try:
            async with asyncio.timeout(SECONDS):
                await self._stack.relay.used()
        except TimeoutError:
            raise NotSeen(f"the edge did not connect again within {SECONDS:g} s") from None
        connected = time.time()
        pin, shown = [await self._journal.sees(place, HIDDEN, ON, seconds=SECONDS) for place in (Place.PIN, Place.SHOWN)]
        self._seen(
            f"the edge is let in again: connected after {connected - began:.1f} s, {HIDDEN} ON applied: pin BCM {LAMPS[HIDDEN]} high after "
            f"{pin.at - began:.1f} s, reported in the API after {shown.at - began:.1f} s"
        )

    async def _agrees(self, lamp: str, value: str) -> None:
        """Wait until a lamp's value is wanted, at its pin and reported."""
        for place in (Place.WANTED, Place.PIN, Place.SHOWN):
            await self._journal.sees(place, lamp, value, seconds=SECONDS)

    def _seen(self, what: str) -> None:
        self._step += 1
        self._say(f"ok {self._step:>2}  {what}")

    @staticmethod
    def _level(value: str) -> str:
        return "high" if value == ON else "low"
