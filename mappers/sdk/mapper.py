"""Runs one device against the edge: desired values go to its write functions, what its read functions say is reported."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

from pinnace.core.base.aio.backoff import Backoff
from pinnace.mappers.sdk import topics
from pinnace.mappers.sdk.connection import Broker, Connection, Publication
from pinnace.mappers.sdk.properties import BadValue, Device, Property, decode, encode
from pinnace.mappers.sdk.reports import Reports
from pinnace.mappers.sdk.slot import Slot
from pinnace.mappers.sdk.topics import DeviceTopics, Dialect

logger = logging.getLogger(__name__)
T = TypeVar("T")

ONLINE = "online"
OFFLINE = "offline"
UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds. `answer` is how long the edge has for a question before it is asked again, first and at most; `retry` the same
    for a device that failed; `resync` how often the twins are compared though nothing was heard; `call` the limit of one device call."""

    answer: tuple[float, float] = (2.0, 30.0)
    retry: tuple[float, float] = (0.5, 30.0)
    resync: float = 60.0
    call: float = 30.0


class Mapper:
    """One device, for ever: `run` until cancelled.

    Per property the desired values are applied in order, the newest only. The broker may go and come, the edge too: on each connect and
    at intervals the twins are asked for, so that nothing set meanwhile is lost, and a report is repeated until the edge answered it.
    A value that the device does not have, or a device that fails, makes its state `unhealthy` until the property works again.
    """

    def __init__(
        self,
        device: Device,
        broker: Broker,
        *,
        dialect: Dialect = Dialect.AUTO,
        timing: Timing | None = None,
        on_first_connect: Callable[[], None] = lambda: None,
    ) -> None:
        self.device = device
        self._on_first_connect: Callable[[], None] | None = on_first_connect
        self._timing = timing or Timing()
        self._slots = {each.name: Slot() for each in device}
        self._due = {each.name: asyncio.Event() for each in device}
        self._reports = Reports(secrets.token_hex(4))
        self._held: dict[str, str] = {}
        """What the edge said it holds as reported, of the properties nothing was said about since."""
        self._candidates = topics.topics_of(device, dialect)
        self._chosen: DeviceTopics | None = self._candidates[0] if len(self._candidates) == 1 else None
        self._is_known = False
        self._state = ONLINE
        self._locks = {each.name: asyncio.Lock() for each in device}
        self._survey_due = asyncio.Event()
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._landed = asyncio.Event()
        self._ignored: set[str] = set()
        self._executor: ThreadPoolExecutor | None = None
        self._connection = Connection(
            broker,
            name=f"mapper-{device.name}"[:40],
            on_connected=self._connected,
            on_message=self._received,
            on_lost=self._lost,
            will=lambda: Publication(self._preferred.state, topics.state(OFFLINE)),
        )

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def state(self) -> str:
        """online or unhealthy, as last published."""
        return self._state

    @property
    def _preferred(self) -> DeviceTopics:
        return self._chosen or self._candidates[0]

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for each in self.device:
                    if each.write is not None:
                        group.create_task(self._apply(each))
                    if each.read is not None and each.every_seconds is not None:
                        group.create_task(self._watch(each, each.every_seconds))
                group.create_task(self._survey())
                group.create_task(self._question())
                group.create_task(self._report())
                group.create_task(self._connection.run(lambda: Publication(self._preferred.state, topics.state(OFFLINE))))
        finally:
            if self._executor is not None:
                self._executor.shutdown(wait=False, cancel_futures=True)

    # What the broker brings

    def _connected(self) -> None:
        self._is_known = False
        self._connection.subscribe([topics.MEMBERSHIP_UPDATED, *(topic for each in self._listened() for topic in each.subscriptions)])
        self._publish_state()
        self._ask_now()
        if self._on_first_connect is not None:
            self._on_first_connect()
            self._on_first_connect = None

    def _lost(self) -> None:
        self._is_known = False
        self._reports.clear()
        self._landed.set()

    def _ask_now(self) -> None:
        """Ask for the twins; `_question` repeats it until they came."""
        self._answered.clear()
        for each in self._listened():
            self._connection.publish(Publication(each.get, topics.get(f"get-{secrets.token_hex(4)}")))
        self._asked.set()

    def _listened(self) -> tuple[DeviceTopics, ...]:
        return (self._chosen,) if self._chosen else self._candidates

    def _received(self, topic: str, payload: bytes) -> None:
        for each in self._listened():
            if topic in each.subscriptions:
                try:
                    answer = topics.parse(payload)
                except ValueError as error:
                    logger.warning("mapper.garbage topic=%s bytes=%d error=%s: ignored", topic, len(payload), error)
                    return
                self._heard(each, topic, answer)
                return
        if topic.endswith("/membership/updated") and not self._is_known:
            self._ask_now()

    def _heard(self, source: DeviceTopics, topic: str, answer: topics.Answer) -> None:
        if topic == source.update_result:
            self._landed_report(answer)
        elif answer.code:
            logger.debug("mapper.refused device=%s code=%d reason=%s", self.device.name, answer.code, answer.reason)
        else:
            if topic == source.get_result:
                self._choose(source)
                self._answered.set()
                self._held = {name: twin.reported for name, twin in answer.twins.items()}
            for name, value in answer.delta.items():
                self._desire(name, value)
            for name, twin in answer.twins.items():
                if twin.desired:
                    self._desire(name, twin.desired)
                self._compare(name, twin)
            if topic == source.get_result and not self._is_known:
                self._is_known = True
                self._publish_state()
                self._outgoing.set()
                self._survey_due.set()

    def _choose(self, source: DeviceTopics) -> None:
        """The edge answers on this form: leave the other one."""
        if self._chosen is None:
            self._chosen = source
            self._connection.unsubscribe([topic for each in self._candidates if each != source for topic in each.subscriptions])

    def _desire(self, name: str, value: str) -> None:
        item = self.device.properties.get(name)
        if item is None or item.write is None:
            if name not in self._ignored and item is not None and value != self._slots[name].actual:
                logger.warning("mapper.read-only device=%s property=%s: a desired value is ignored", self.device.name, name)
                self._ignored.add(name)
        elif self._slots[name].want(value):
            self._due[name].set()
        else:
            self._update_state()

    def _compare(self, name: str, twin: topics.TwinText) -> None:
        """Say again what the edge holds differently, unless that report is on its way."""
        slot = self._slots.get(name)
        if slot is not None and slot.actual and twin.reported != slot.actual and not self._reports.is_open(name, slot.actual):
            self._tell(name, slot.actual)

    def _landed_report(self, answer: topics.Answer) -> None:
        if not answer.code:
            if self._reports.arrive(answer.event_id):
                self._landed.set()
            return
        if not self._reports.arrive(answer.event_id):
            return
        if answer.code == 404:
            self._is_known = False
            self._ask_now()
        logger.warning("mapper.report-refused device=%s code=%d reason=%s", self.device.name, answer.code, answer.reason)
        self._landed.set()

    # Loops

    async def _question(self) -> None:
        """Repeat an unanswered question with back-off, and ask now and then without a reason."""
        backoff = Backoff(*self._timing.answer)
        while True:
            if not await _happens(self._asked, self._timing.resync):
                self._ask_now()
            self._asked.clear()
            while self._connection.is_connected and not await _happens(self._answered, backoff.next()):
                self._is_known = False
                self._ask_now()
            backoff.reset()

    async def _report(self) -> None:
        """Publish what is to be said, one report at a time, until the edge answered each."""
        types = {each.name: each.type_word for each in self.device}
        backoff = Backoff(*self._timing.answer)
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            while self._is_known and (departure := self._reports.depart()) is not None:
                event_id, values = departure
                self._landed.clear()
                self._connection.publish(Publication(self._preferred.update, topics.report(event_id, values, types), qos=0))
                if await _happens(self._landed, backoff.next()):
                    backoff.reset()
                else:
                    logger.warning("mapper.unanswered device=%s: reporting again", self.device.name)
                    self._reports.lose()
                    self._ask_now()

    async def _apply(self, item: Property) -> None:
        """Write the newest desired value of one property whenever there is one."""
        slot, due = self._slots[item.name], self._due[item.name]
        backoff = Backoff(*self._timing.retry)
        while True:
            await due.wait()
            due.clear()
            while (text := slot.wanted) is not None:
                try:
                    await self._write(item, text)
                    backoff.reset()
                except BadValue as error:
                    slot.refuse(text, str(error))
                    logger.warning("device.bad-value device=%s property=%s value=%.60s: %s", self.device.name, item.name, text, error)
                except Exception as error:  # noqa: BLE001 - the supervision border of the mapper's author's code
                    if slot.failed(_words(error)):
                        logger.warning(
                            "device.write-failed device=%s property=%s value=%.60s error=%s: trying again",
                            self.device.name,
                            item.name,
                            text,
                            _words(error),
                        )
                    self._update_state()
                    await _happens(due, backoff.next())
                    due.clear()
                self._update_state()

    async def _write(self, item: Property, text: str) -> None:
        assert item.write is not None
        write, value = item.write, decode(item.kind, text)
        async with self._locks[item.name]:
            await self._call(item, item.write, lambda: write(value))
            self._slots[item.name].applied(text)
            shown = await self._try_read(item) if item.read is not None else text
            if shown is not None:
                self._tell(item.name, shown)

    async def _watch(self, item: Property, every_seconds: float) -> None:
        """Read one property in its cycle and report changes."""
        while True:
            await asyncio.sleep(every_seconds)
            async with self._locks[item.name]:
                value = await self._try_read(item)
                if value is not None and self._slots[item.name].actual != value:
                    self._tell(item.name, value)

    async def _survey(self) -> None:
        """After each connect read every property and report what the edge does not know."""
        while True:
            await self._survey_due.wait()
            self._survey_due.clear()
            for item in self.device:
                async with self._locks[item.name]:
                    slot = self._slots[item.name]
                    value = await self._try_read(item) if item.read is not None else slot.actual
                    if value and value == self._held.get(item.name):
                        slot.seen(value)
                    elif value:
                        self._tell(item.name, value)

    async def _try_read(self, item: Property) -> str | None:
        """The property's text, or None (noted and logged once) when it cannot be read now."""
        assert item.read is not None
        slot = self._slots[item.name]
        try:
            value = encode(await self._call(item, item.read, item.read))
        except Exception as error:  # noqa: BLE001 - the supervision border of the mapper's author's code
            if slot.failed(_words(error)):
                logger.warning("device.read-failed device=%s property=%s error=%s", self.device.name, item.name, _words(error))
            self._update_state()
            return None
        if slot.fault and slot.wanted is None and slot.refused is None:
            slot.fault = ""
            self._update_state()
        return value

    # Helpers of the loops

    async def _call(self, item: Property, declared: Callable[..., object], function: Callable[[], T | Awaitable[T]]) -> T:
        """Call the author's function: coroutines on the loop, plain ones in the device's thread unless they are quick."""
        async with asyncio.timeout(self._timing.call):
            if item.quick or inspect.iscoroutinefunction(declared):
                outcome = function()
            else:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(1, thread_name_prefix=self.device.name)
                outcome = await asyncio.get_running_loop().run_in_executor(self._executor, function)
            if inspect.isawaitable(outcome):
                return await cast("Awaitable[T]", outcome)
            return outcome

    def _tell(self, name: str, value: str) -> None:
        self._held.pop(name, None)
        self._slots[name].seen(value)
        self._reports.put({name: value})
        self._outgoing.set()

    def _update_state(self) -> None:
        word = UNHEALTHY if any(each.fault for each in self._slots.values()) else ONLINE
        if word != self._state:
            self._state = word
            self._publish_state()

    def _publish_state(self) -> None:
        self._connection.publish(Publication(self._preferred.state, topics.state(self._state)))


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event; False when the time is over first."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
