"""A database that turns out to be damaged while the edge runs ends it; the next start goes on from the snapshot."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pinnace.core import agent
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import StoreDamaged
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.hub.settings import EdgeHubSettings
from pinnace.core.meta.store import Store
from pinnace.core.settings import DatabaseSettings, EdgeCoreSettings, ModuleSettings


def change(number: int, version: str) -> ObjectChange:
    return ObjectChange("update", ResourceKey("configmap", "default", f"c{number}"), version, b'{"data":"' + b"x" * 900 + b'"}')


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[Store]:
    """The stores that the agent opens."""
    opened: list[Store] = []

    class SeenStore(Store):
        async def __aenter__(self) -> SeenStore:
            opened.append(self)
            await super().__aenter__()
            return self

    monkeypatch.setattr(agent, "Store", SeenStore)
    return opened


async def test_damage_ends_the_edge_and_the_next_start_recovers(tmp_path: Path, stores: list[Store]) -> None:
    path = tmp_path / "edge.db"
    settings = EdgeCoreSettings(
        database=DatabaseSettings(data_source=path),
        modules=ModuleSettings(
            edge_hub=EdgeHubSettings(enable=False),
            event_bus=EventBusSettings(enable=False),
            edged=EdgedSettings(
                enable=False, control_socket=tmp_path / "c.sock", tailored_kubelet_config=KubeletSettings(read_only_port=0)
            ),
        ),
    )
    with pytest.raises(StoreDamaged, match="restart pinnace edgecore"):  # noqa: PT012 - the block is what is interrupted
        async with agent.running(settings):
            (store,) = stores
            await store.apply([change(number, "1") for number in range(400)])
            await store._writer.call(store._database.snapshot)
            await store._writer.call(lambda: [*store._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")])
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(random.Random(1).randbytes(size - 4096))
            for number in range(400):
                try:
                    await store.apply([change(number, "2")])
                except StoreDamaged:
                    break
            await asyncio.Event().wait()
    async with agent.running(settings):
        assert len(stores[1].list("configmap")) == 400
        assert "set aside" in stores[1]._health.problem("store.damaged")
