"""The message bus that tests of systemd and logind share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig.login1 import message_bus


@pytest.fixture
async def bus() -> AsyncIterator[Path]:
    async with message_bus() as path:
        yield path
