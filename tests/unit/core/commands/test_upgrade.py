"""`pinnace upgrade`: what it refuses before anything is written, and the judgement of a root on trial."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.core.appliance import rootfile
from pinnace.core.appliance.slots import Slots
from pinnace.core.base.errors import ConfigError, LinkError, PinnaceError, RefusedError
from pinnace.core.commands import upgrade
from pinnace.core.meta.database import former_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    upgrade.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "pinnace.root"
    path.write_bytes((b"hsqs" + bytes(36) + struct.pack("<Q", 4096)).ljust(4096, b"\0"))
    return path


def test_an_older_version_is_refused_with_what_to_do(root: Path) -> None:
    rootfile.seal(root, "0.0.1")
    with pytest.raises(RefusedError, match=r"0\.0\.1 is older than .* --allow-downgrade tries it"):
        upgrade.run(parsed(str(root)))


def test_a_machine_without_the_image_is_told_what_upgrades_it(root: Path) -> None:
    rootfile.seal(root, "99.0")
    with pytest.raises(ConfigError, match="not started from Pinnace's image"):
        upgrade.run(parsed(str(root)))


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        ([], ConfigError, "which root"),
        (["/nowhere/x.root"], ConfigError, "cannot be read"),
        (["/etc/hostname"], RefusedError, "no whole root of Pinnace"),
    ],
)
def test_wrong_files(words: list[str], error: type[PinnaceError], told: str) -> None:
    with pytest.raises(error, match=told):
        upgrade.run(parsed(*words))


@pytest.mark.parametrize(("place", "error"), [("ftp://x/y", ConfigError), ("http://127.0.0.1:9/x.root", LinkError)])
def test_wrong_addresses(place: str, error: type[PinnaceError]) -> None:
    with pytest.raises(error), upgrade.opened(place):
        pass


def test_a_card_that_cannot_be_written_is_told(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rootfile.seal(root, "99.0")
    run = tmp_path / "run"
    run.mkdir()
    (run / "slot").write_text("a\n")
    (run / "partitions").write_text(f"{tmp_path}/p\n")
    (tmp_path / "p3").touch()
    (tmp_path / "state").touch()  # as good as any place that cannot be written, also for root
    monkeypatch.setattr(upgrade, "Slots", lambda: Slots(tmp_path / "state", run))
    with pytest.raises(PinnaceError, match=r"root b was not written: .*; this node goes on with what it has"):
        upgrade.run(parsed(str(root), "--no-reboot"))


def test_a_second_upgrade_is_told_who_is_at_work_and_changes_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rootfile.seal(root, "99.0")
    run, state = tmp_path / "run", tmp_path / "state"
    for each in (run, state):
        each.mkdir()
    (run / "slot").write_text("a\n")
    (run / "partitions").write_text(f"{tmp_path}/p\n")
    (state / "trial").write_text("b 3\n")
    (tmp_path / "p3").touch()
    monkeypatch.setattr(upgrade, "Slots", lambda: Slots(state, run))
    with Slots(state, run).locked(), pytest.raises(RefusedError, match=rf"upgrade` is at work already \(process {os.getpid()}\); wait"):
        upgrade.run(parsed(str(root), "--no-reboot"))
    assert (state / "trial").read_text() == "b 3\n"
    assert not (tmp_path / "p3").read_bytes()
    assert upgrade.run(parsed(str(root), "--no-reboot")) == 0
    assert (tmp_path / "p3").read_bytes() == root.read_bytes()


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    """Root b runs, on trial."""
    state, run = tmp_path / "boot", tmp_path / "run"
    for each in (state, run):
        each.mkdir()
    (state / "trial").write_text("b 2\n")
    (run / "slot").write_text("b\n")
    (run / "trial").touch()
    return Slots(state, run)


@contextlib.contextmanager
def agent(*answers: bytes) -> Iterator[Path]:
    """Gives one answer a connection, on a socket as the agent's."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "sock")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for each in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 " + each + b"\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join(10)


def confirmed(slots: Slots, path: Path, folder: Path, *, within: float) -> int:
    (folder / "edgecore.yaml").write_text(f"database: {{dataSource: {folder}/edge.db}}\n")
    former_of(folder / "edge.db").touch()
    args = parsed("--confirm", "--within", str(within), "--socket", str(path), "--config", str(folder / "edgecore.yaml"))
    return upgrade.confirm(args, slots)


def test_a_root_whose_node_is_ready_is_kept(slots: Slots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with agent(b"503 Service Unavailable", b"200 OK") as path:
        assert confirmed(slots, path, tmp_path, within=60) == 0
    assert (tmp_path / "boot/active").read_text() == "b\n"
    assert not slots.is_trial
    assert not former_of(tmp_path / "edge.db").exists(), "there is no way back any more"


def test_a_root_whose_node_is_not_ready_in_time_is_given_up(slots: Slots, tmp_path: Path) -> None:
    with agent(b"503 Service Unavailable\r\nX: y") as path, pytest.raises(PinnaceError, match="root b is given up"):
        confirmed(slots, path, tmp_path, within=0)
    assert (tmp_path / "boot/trial").read_text() == "b 0\n"
    assert not (tmp_path / "boot/active").exists()
    assert former_of(tmp_path / "edge.db").exists(), "the former root takes it back"


def test_a_root_whose_agent_hangs_is_given_up(slots: Slots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "_ANSWER_SECONDS", 0.01)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/sock")
        listener.listen()
        with pytest.raises(PinnaceError, match=r"root b is given up.*the agent does not answer"):
            confirmed(slots, Path(folder, "sock"), tmp_path, within=0)
    assert (tmp_path / "boot/trial").read_text() == "b 0\n"


def test_a_board_that_is_no_node_yet_keeps_its_root(slots: Slots, tmp_path: Path) -> None:
    args = parsed("--confirm", "--config", str(tmp_path / "none"), "--socket", "/nowhere")
    assert upgrade.confirm(args, slots) == 0
    assert not slots.is_trial
