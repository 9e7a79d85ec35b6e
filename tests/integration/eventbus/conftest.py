"""A link or a bus that runs for the length of a block, beside a real mosquitto."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from integration.mosquitto import Mosquitto, Probe

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.eventbus.link import BrokerLink
from pinnace.core.eventbus.settings import parse_address

DEADLINE = 20.0
Message = tuple[str, bytes, Callable[[], None] | None]


class Link:
    """A BrokerLink and what it was told. With `hold` messages are not acknowledged but by the test."""

    def __init__(self, url: str, *, hold: bool = False, client_id: str = "edge", **options: Any) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.reports: asyncio.Queue[str] = asyncio.Queue()
        self.ups = 0
        self._hold = hold
        self.link = BrokerLink(
            parse_address(url),
            client_id=client_id,
            arrival=self._arrived,
            up=self._up,
            report=self.reports.put_nowait,
            backoff=options.pop("backoff", None) or Backoff(0.01, 0.05),
            **options,
        )

    def _arrived(self, topic: str, payload: bytes, acknowledge: Callable[[], None] | None) -> None:
        self.messages.put_nowait((topic, payload, acknowledge))
        if acknowledge is not None and not self._hold:
            acknowledge()

    def _up(self) -> None:
        self.ups += 1

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(DEADLINE):
            topic, payload, _ = await self.messages.get()
        return topic, payload

    async def reported(self, part: str) -> str:
        """The next report that has `part` in it."""
        async with asyncio.timeout(DEADLINE):
            while True:
                report = await self.reports.get()
                if part in report:
                    return report

    async def is_subscribed(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.link.subscribed.wait()

    @contextlib.asynccontextmanager
    async def running(self, *, subscribed: bool = True) -> AsyncIterator[BrokerLink]:
        async with run(self.link.run()):
            if subscribed:
                await self.is_subscribed()
            yield self.link


@contextlib.asynccontextmanager
async def run(service: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a service that never ends by itself; if it does, its error fails the test."""
    task = asyncio.ensure_future(service)
    try:
        yield task
        assert not task.done() or task.result() is None
    finally:
        task.cancel()
        await asyncio.wait([task])


async def seen(probe: Probe, count: int = 1) -> list[tuple[str, bytes]]:
    """The probe's next messages, while the loop goes on."""
    return await asyncio.to_thread(probe.take, count)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The link watches raw sockets, so it is tested on the loop of the product and on Python's own; the rest on the former."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    return {**factories, "asyncio": asyncio.new_event_loop} if item.path.stem == "test_link" else factories


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def probe(broker: Mosquitto) -> Iterator[Probe]:
    with Probe(broker.url) as running:
        yield running
