"""A whole system with a node that runs pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig.kube import KubeClient
from rig.podplaces import pod_places
from rig.system import System


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[tuple[System, KubeClient]]:
    with pod_places() as places:
        places.offer()
        system = System(tmp_path / "s", pods=places)
        async with system.running() as kube:
            yield system, kube
