"""One cloudcore's hub a test, and edges that join it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from rig.hub import Cloud, Edge, EdgeMaker, edge_settings

from pinnace.core.base.aio.clock import Clock


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    made = Cloud(outbox_file=tmp_path / "cloud" / "outbox.db")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def make_edge(cloud: Cloud, tmp_path: Path) -> AsyncIterator[EdgeMaker]:
    """(node, token=…, hub_port=…, folder=…, clock=…) → an Edge that is not running yet; stopped at the end of the test."""
    made: list[Edge] = []

    def make(
        node: str = "edge-1", *, token: str | None = None, hub_port: int = 0, folder: Path | None = None, clock: Clock | None = None
    ) -> Edge:
        edge = Edge(edge_settings(cloud, folder or tmp_path / node, token=token, hub_port=hub_port), node, clock)
        made.append(edge)
        return edge

    yield make
    for edge in made:
        await edge.stop()


@pytest.fixture
async def slow_cloud() -> AsyncIterator[Cloud]:
    """A cloud whose time stands still until the test moves it."""
    made = Cloud(clock=FakeClock(wall=time.time()))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def make_edge_on(slow_cloud: Cloud, tmp_path: Path) -> AsyncIterator[EdgeMaker]:
    """As `make_edge`, for nodes of `slow_cloud` with its clock."""
    made: list[Edge] = []

    def make(node: str, *, hub_port: int = 0) -> Edge:
        edge = Edge(edge_settings(slow_cloud, tmp_path / node, hub_port=hub_port), node, slow_cloud.clock)
        made.append(edge)
        return edge

    yield make
    for edge in made:
        await edge.stop()
