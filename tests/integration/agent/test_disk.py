"""The node's disk is the one that pods are on, wherever the machine's root is: an image's root is a squashfs with no room at all."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from rig.waiting import until

from pinnace.core import agent
from pinnace.core.base.settings.edged import EdgedSettings, KubeletSettings
from pinnace.core.commands.parts import control
from pinnace.core.eventbus.settings import EventBusSettings
from pinnace.core.hub.settings import EdgeHubSettings
from pinnace.core.node.machine import Load, Machine
from pinnace.core.node.service import NodeService
from pinnace.core.settings import DatabaseSettings, EdgeCoreSettings, ModuleSettings

SIZE = 8 << 20


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A file system of eight megabytes, a quarter of it taken."""
    folder = tmp_path / "data"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        (folder / "taken").write_bytes(bytes(SIZE // 4))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.root
async def test_the_node_and_its_statistics_measure_where_pods_are(
    data: Path, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Machine, Load]] = []

    class SeenService(NodeService):
        async def run(self) -> None:
            seen.append((self._machine, self._reader.load("192.0.2.7")))
            await super().run()

    monkeypatch.setattr(agent, "NodeService", SeenService)
    kubelet = KubeletSettings(read_only_port=0)
    edged = EdgedSettings(
        enable=False, root_directory=data / "lib/kubelet", control_socket=sockets / "c.sock", tailored_kubelet_config=kubelet
    )
    modules = ModuleSettings(edge_hub=EdgeHubSettings(enable=False), event_bus=EventBusSettings(enable=False), edged=edged)
    settings = EdgeCoreSettings(database=DatabaseSettings(data_source=tmp_path / "edge.db"), modules=modules)
    async with agent.running(settings):
        await until(edged.control_socket.exists, "the control door")
        summary = orjson.loads(await control.whole(edged.control_socket, "/stats/summary"))
    ((machine, load),) = seen
    assert machine.disk == SIZE
    assert 0.7 < load.disk_free <= 0.75
    assert summary["node"]["fs"]["capacityBytes"] == SIZE
    assert 0.7 * SIZE < summary["node"]["fs"]["availableBytes"] <= 0.75 * SIZE
