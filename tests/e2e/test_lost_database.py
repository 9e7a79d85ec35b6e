"""An edge whose database is gone, or is an old copy, has its devices back once it is connected, and none that was deleted meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from rig.asker import Asker, wanted
from rig.kube import DEVICES, KubeClient
from rig.system import DEVICE, NODE, System, eventually, set_desired

from pinnace.core.meta.database import former_of

pytestmark = pytest.mark.mosquitto


async def copy_device(kube: KubeClient, name: str) -> None:
    device = await kube.get(f"{DEVICES}/{DEVICE}")
    body = {**device, "metadata": {"name": name, "namespace": "default"}, "status": {}}
    body["spec"] = {**device["spec"], "nodeName": NODE}
    status, answer = await kube.ask("POST", DEVICES, body)
    assert status == 201, answer


async def test_a_database_that_is_gone_is_filled_again(tmp_path: Path) -> None:
    system = System(tmp_path)
    async with system.running(), Asker(system) as asker:
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.kill()
        shutil.rmtree(tmp_path / "edge")
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)


async def test_an_old_copy_is_brought_up_to_date(tmp_path: Path) -> None:
    system = System(tmp_path)
    async with system.running() as kube, Asker(system) as asker:
        await copy_device(kube, "second")
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await eventually(lambda: asker.ask("second"), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.stop()
        shutil.copytree(tmp_path / "edge", tmp_path / "old")
        await system.edge.start()
        await set_desired(kube, {"red": "ON"})
        status, _ = await kube.ask("DELETE", f"{DEVICES}/second")
        assert status == 200
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "ON", system)
        await eventually(lambda: asker.ask("second"), lambda answer: answer.get("code") == 404, system)
        await system.edge.kill()
        # What a restored snapshot is: an old copy that says so.
        shutil.rmtree(tmp_path / "edge")
        (tmp_path / "edge").mkdir()
        (tmp_path / "old" / "edgecore.db").rename(tmp_path / "edge" / "edgecore.db.snapshot")
        asker.answers.clear()
        await system.edge.start()
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "ON", system)
        await eventually(lambda: asker.ask("second"), lambda answer: answer.get("code") == 404, system)


async def test_what_a_version_on_trial_acknowledged_is_told_again_to_the_version_before(tmp_path: Path) -> None:
    system = System(tmp_path)
    async with system.running() as kube, Asker(system) as asker:
        await copy_device(kube, "gone")
        await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "OFF", system)
        await eventually(lambda: asker.ask("gone"), lambda answer: wanted(answer) == "OFF", system)
        await system.edge.stop()
        database = tmp_path / "edge" / "edgecore.db"
        with closing(sqlite3.connect(database)) as connection:  # as a newer version does before it migrates
            connection.execute("VACUUM INTO ?", (str(tmp_path / "former"),))
        await system.edge.start()
        await copy_device(kube, "new")
        await set_desired(kube, {"red": "ON"})
        assert (await kube.ask("DELETE", f"{DEVICES}/gone"))[0] == 200

        async def is_told() -> None:
            await eventually(lambda: asker.ask(DEVICE), lambda answer: wanted(answer) == "ON", system)
            await eventually(lambda: asker.ask("new"), lambda answer: wanted(answer) == "OFF", system)
            await eventually(lambda: asker.ask("gone"), lambda answer: answer.get("code") == 404, system)

        await is_told()
        await system.edge.stop()
        with closing(sqlite3.connect(database)) as connection, connection:  # what it left when it was given up
            connection.execute("INSERT INTO migrations VALUES (1000, 0)")
        (tmp_path / "former").rename(former_of(database))
        asker.answers.clear()
        await system.edge.start()
        await is_told()
