"""`pinnace reset` of a machine without pods: what goes, what stays, and who has to wait meanwhile."""

from __future__ import annotations

import argparse
import fcntl
from pathlib import Path

import pytest
import yaml

from pinnace.core.base.errors import RefusedError
from pinnace.core.base.settings.edged import BuiltinRuntimeSettings, EdgedSettings
from pinnace.core.commands import reset
from pinnace.core.pods.material import mounts, remote
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.mounts import Mounted, Mounts

OWN = ("edge[1].db", "edge[1].db-wal", "edge[1].db-shm", "edge[1].db.lock", "edge[1].db.snapshot", "edge[1].db.snapshot.new")
DAMAGED = ("edge[1].db.damaged-20260131T120000", "edge[1].db.damaged-20260131T120000-wal")
FOREIGN = ("edge[1].db.mine", "edge[1].db2", "edge1.db", "mosquitto")


class Machine:
    def __init__(self, folder: Path) -> None:
        self.data, self.certs, self.config = folder / "data", folder / "certs", folder / "edgecore.yaml"
        for each in (self.data, self.certs):
            each.mkdir()
        for name in (*OWN, *DAMAGED, *FOREIGN):
            (self.data / name).write_text("x")
        (self.data / "edge[1].db.backups").mkdir()
        hub = {"tlsCaFile": str(self.certs / "ca"), "tlsCertFile": str(self.certs / "cert"), "tlsPrivateKeyFile": str(self.certs / "key")}
        modules = {"edgeHub": hub, "edged": {"enable": False, "hostnameOverride": "n1"}}
        self.config.write_text(yaml.safe_dump({"database": {"dataSource": str(self.data / OWN[0])}, "modules": modules}))

    def reset(self, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        reset.add_arguments(parser)
        return reset.run(parser.parse_args(["--config", str(self.config), *arguments]))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_only_the_nodes_own_files_go(machine: Machine) -> None:
    assert machine.reset("--force") == 0
    assert {each.name for each in machine.data.iterdir()} == {*FOREIGN, "edge[1].db.backups"}
    assert not machine.config.exists()


def test_nobody_to_ask_changes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = (machine.data / OWN[3]).open("r+")

    def ask(_: str) -> str:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an edge that is started now
        return "no"

    monkeypatch.setattr("builtins.input", ask)
    assert machine.reset() == 1
    assert (machine.data / OWN[0]).exists()
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(RefusedError, match="stop it first"):
        machine.reset("--force")
    lock.close()


async def test_volumes_of_a_server_that_is_away_go_without_waiting_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builtin = BuiltinRuntimeSettings(root_dir=tmp_path / "root", run_dir=tmp_path / "run")
    edged = EdgedSettings(root_directory=tmp_path / "kubelet", pod_logs_dir=tmp_path / "logs", builtin_runtime=builtin)
    folders = PodFolders(edged.root_directory, edged.pod_logs_dir)
    point = folders.volume("u-1", "nfs", "far")
    point.mkdir(parents=True)
    mounted = [Mounted(point, "0:40", "nfs4")]

    class Table(Mounts):
        def all(self) -> list[Mounted]:
            return list(mounted)

        def unmount(self, target: Path) -> None:
            raise AssertionError(f"this process would wait for the server of {target}")

    async def run_unmount(point: Path) -> None:
        mounted.clear()
        raise OSError(f"{point}: no answer")

    monkeypatch.setattr(mounts, "Mounts", Table)
    monkeypatch.setattr(remote, "run_unmount", run_unmount)
    assert await reset.clear_folders(edged) == []
    assert not folders.pod("u-1").exists()
