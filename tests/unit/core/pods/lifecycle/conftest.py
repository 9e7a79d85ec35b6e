"""A node with pods, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig.pods import PodWorld


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PodWorld]:
    made = PodWorld(tmp_path)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
