"""What `pinnace install` and `uninstall` say and refuse without a frozen build, and what --purge may take."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from pinnace.core.base import cli
from pinnace.core.base.errors import PinnaceError, RefusedError
from pinnace.core.commands.install import CONFIG, database, refuse_schema, start
from pinnace.core.commands.uninstall import belongings
from pinnace.core.install.build import Build
from pinnace.core.install.machine import BROKER, EDGE, Machine
from pinnace.core.install.versions import Versions
from pinnace.core.meta.database import SCHEMA, written_schema
from pinnace.core.pods.material.mounts import Mounts


def configure(root: Path, **database_settings: str) -> None:
    (root / CONFIG).parent.mkdir(parents=True)
    (root / CONFIG).write_text(yaml.safe_dump({"database": database_settings}))


def write_schema(path: Path, version: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied INTEGER NOT NULL)")
        connection.execute("INSERT INTO migrations VALUES (?, 0)", (version,))
        connection.commit()


@pytest.mark.root
def test_purging_touches_nothing_that_is_mounted_and_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A volume on a server, that nothing has unmounted since its configuration is gone."""
    volume = tmp_path / "var/lib/kubelet/pods/uid/volumes/kubernetes.io~nfs/photos"
    for each in (volume, tmp_path / "opt/pinnace", tmp_path / "var/lib/pinnace/images"):
        each.mkdir(parents=True)
    mounts, purge = Mounts(), ["uninstall", "--root", str(tmp_path), "--purge", "--force"]
    mounts.tmpfs(volume)
    try:
        (volume / "1.jpg").touch()
        assert cli.main(purge) == 1
        assert "something is mounted there" in capsys.readouterr().err
        assert (volume / "1.jpg").exists()
        assert not (tmp_path / "var/lib/pinnace").exists()
        assert (tmp_path / "opt/pinnace").exists(), "to do it again with"
    finally:
        mounts.unmount(volume)
    assert cli.main(purge) == 0
    assert not (tmp_path / "var/lib/kubelet").exists()
    assert not (tmp_path / "opt/pinnace").exists()


def test_what_an_uninstalled_node_left_is_purged_later_and_a_strangers_files_are_not(tmp_path: Path) -> None:
    configure(tmp_path)
    volume = tmp_path / "var/lib/kubelet/pods/p/volumes/v"
    volume.mkdir(parents=True)
    purge = ["uninstall", "--root", str(tmp_path), "--purge", "--force"]
    assert cli.main(purge) == 2
    assert volume.exists(), "there is no database of ours: a kubelet's"
    write_schema(database(tmp_path), SCHEMA)
    assert cli.main(purge) == 0
    assert not (tmp_path / "var/lib/kubelet").exists()
    assert not database(tmp_path).exists()
    assert not (tmp_path / "opt/pinnace").exists()


def test_a_checkout_cannot_be_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["install", "--root", str(tmp_path)]) == 2
    assert "`make freeze`" in capsys.readouterr().err


def test_nothing_installed_cannot_be_uninstalled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["uninstall", "--root", str(tmp_path)]) == 2
    assert "nothing is installed" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_what_is_no_database_stands_in_nobodys_way(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "edge.db"
    if content is not None:
        path.write_bytes(content)
    assert written_schema(path) == 0
    assert not path.exists() or path.read_bytes() == content


def test_the_database_of_a_newer_one_is_refused_where_the_configuration_names_it(tmp_path: Path) -> None:
    configure(tmp_path, dataSource="/data/some/edge.db")
    assert database(tmp_path) == tmp_path / "data/some/edge.db"
    write_schema(database(tmp_path), SCHEMA + 1)
    with pytest.raises(RefusedError, match=rf"schema {SCHEMA + 1}\) and 1\.0 reads only up to schema {SCHEMA}"):
        refuse_schema(tmp_path, "1.0", SCHEMA)
    refuse_schema(tmp_path, "1.0", SCHEMA + 1)


def test_a_configuration_that_is_broken_is_no_reason_to_refuse(tmp_path: Path) -> None:
    configure(tmp_path)
    (tmp_path / CONFIG).write_text("modules: [")
    refuse_schema(tmp_path, "1.0", SCHEMA)


def test_purging_takes_no_folder_that_others_may_use(tmp_path: Path) -> None:
    configure(tmp_path, dataSource="/data/edge.db")
    for name in ("data/edge.db", "data/edge.db-wal", "data/edge.db of last year", "data/family photos"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = belongings(tmp_path)
    assert {tmp_path / "data/edge.db", tmp_path / "data/edge.db-wal", tmp_path / CONFIG} <= set(found)
    folders = {tmp_path / "data", tmp_path / "etc/kubeedge", tmp_path / "var/lib", tmp_path}
    assert not folders & set(found)
    assert tmp_path / "data/edge.db of last year" not in found
    assert all(each.is_relative_to(tmp_path) for each in found)


class Stubborn(Machine):
    """Whose systemd brings up one version only."""

    def __init__(self, root: Path, *, ran: bool) -> None:
        super().__init__(root)
        self._ran = ran

    @property
    def runs_edge(self) -> bool:
        return self._ran

    def start(self, *, is_new: bool) -> None:
        if Versions(self._root).current != "1.0":
            raise PinnaceError("systemctl restart failed")


@pytest.mark.parametrize(
    ("ran", "schema", "said", "left"),
    [
        (True, 1, r"2\.0 does not come up, so 1\.0 is in use again: systemctl restart failed", "1.0"),
        (True, 2, r"1\.0 could not read the database any more, so 2\.0 stays in use", "2.0"),
        (False, 1, "^systemctl restart failed$", "2.0"),
    ],
)
def test_a_version_that_does_not_come_up(tmp_path: Path, ran: bool, schema: int, said: str, left: str) -> None:
    versions, machine = Versions(tmp_path), Stubborn(tmp_path, ran=ran)
    for name in ("1.0", "2.0"):
        lib = versions.folder / name / "lib"
        (lib / "systemd").mkdir(parents=True)
        (lib / "release.json").write_text(f'{{"version": "{name}", "arch": "arm64", "schema": 1}}')
        (lib / "manifest").write_text("")
        (lib / "systemd/mosquitto.conf").touch()
        for unit in (EDGE, BROKER):
            (lib / "systemd" / unit).write_text(f"ExecStart=/opt/pinnace/current/pinnace\n# {name}\n")
        versions.switch(name)
    machine.set_up(Build.of(versions.folder / "2.0"))
    write_schema(database(tmp_path), schema)
    with pytest.raises(PinnaceError, match=said):
        start(versions, machine, "2.0", "1.0")
    assert versions.current == left
    assert versions.failed == ("2.0" if left == "1.0" else "")
    assert (tmp_path / "usr/local/lib/systemd/system" / EDGE).read_text().endswith(f"# {left}\n")
