"""Units, configuration and command: made where they are not there, left where a person has made them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnace.core.install.build import Build
from pinnace.core.install.machine import BROKER, EDGE, Machine

UNITS = Path("usr/local/lib/systemd/system")
OWN = Path("etc/systemd/system")
UNIT = "[Service]\nExecStart=/opt/pinnace/current/pinnace\n"
WANTED = OWN / "multi-user.target.wants"


@pytest.fixture
def build(tmp_path: Path) -> Build:
    lib = tmp_path / "tree/lib"
    (lib / "systemd").mkdir(parents=True)
    (lib / "release.json").write_text('{"version": "1.0", "arch": "arm64", "schema": 1}')
    (lib / "manifest").write_text("")
    (lib / "systemd/mosquitto.conf").write_text("listener 1883 127.0.0.1\n")
    for unit in (EDGE, BROKER):
        (lib / "systemd" / unit).write_text(UNIT)
    return Build.of(tmp_path / "tree")


def test_everything_is_made_and_taken_away_again(tmp_path: Path, build: Build) -> None:
    machine, root = Machine(tmp_path), tmp_path
    assert machine.set_up(build) == []
    for unit in (EDGE, BROKER):
        assert (root / UNITS / unit).read_text() == UNIT
        assert str((root / WANTED / unit).readlink()) == f"/usr/local/lib/systemd/system/{unit}"
    assert str((root / "usr/local/bin/pinnace").readlink()) == "/opt/pinnace/current/pinnace"
    assert machine.starts_broker
    assert machine.set_up(build) == []
    build.file(f"lib/systemd/{EDGE}").write_text(UNIT + "Nice=1\n")
    assert machine.set_up(build) == []
    assert (root / UNITS / EDGE).read_text() == UNIT + "Nice=1\n", "units are the version's"
    machine.tear_down()
    assert [each for each in root.rglob("*") if each.is_symlink()] == []
    assert list((root / UNITS).iterdir()) == []
    assert (root / "etc/pinnace/mosquitto.conf").exists(), "configuration stays"


def test_what_a_person_made_stays(tmp_path: Path, build: Build) -> None:
    machine, root = Machine(tmp_path), tmp_path
    for path in (UNITS / EDGE, Path("usr/local/bin/pinnace"), Path("etc/pinnace/mosquitto.conf")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("mine")
    said = machine.set_up(build)
    assert [line.split(" is ")[0].removeprefix(f"{root}/") for line in said] == [str(UNITS / EDGE), "usr/local/bin/pinnace"]
    machine.tear_down()
    for path in (UNITS / EDGE, Path("usr/local/bin/pinnace"), Path("etc/pinnace/mosquitto.conf")):
        assert (root / path).read_text() == "mine"


def test_a_link_of_a_persons_stays_whatever_its_name_is(tmp_path: Path, build: Build) -> None:
    """A checkout's command, a unit kept elsewhere: named as ours are."""
    machine, theirs = Machine(tmp_path), {Path("usr/local/bin/pinnace"): "/srv/checkout/.venv/bin/pinnace", UNITS / EDGE: f"/srv/{EDGE}"}
    for path, target in theirs.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(target)
    assert len(machine.set_up(build)) == 2
    machine.tear_down()
    assert {path: str((tmp_path / path).readlink()) for path in theirs} == theirs


def test_cut_anywhere_both_units_start_with_the_machine_after_the_next_run(
    tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        pass

    for cut in range(1, 20):
        root, left = tmp_path / str(cut), [cut]
        real = Path.rename

        def counted(self: Path, target: Path, left: list[int] = left, real: Callable[[Path, Path], Path] = real) -> Path:
            left[0] -= 1
            if left[0] == 0:
                raise Cut
            return real(self, target)

        with monkeypatch.context() as patch, contextlib.suppress(Cut):
            patch.setattr(Path, "replace", counted)
            patch.setattr(Path, "rename", counted)
            Machine(root).set_up(build)
        Machine(root).set_up(build)
        assert all((root / WANTED / unit).is_symlink() and (root / UNITS / unit).is_file() for unit in (EDGE, BROKER)), f"step {cut}"
        if left[0] > 0:
            break
    assert cut > 4


def test_a_unit_that_was_switched_off_stays_off(tmp_path: Path, build: Build) -> None:
    machine = Machine(tmp_path)
    machine.set_up(build)
    (tmp_path / WANTED / BROKER).unlink()
    machine.set_up(build)
    assert not machine.starts_broker


def test_the_distributions_broker_is_used_where_it_starts(tmp_path: Path, build: Build) -> None:
    (tmp_path / WANTED).mkdir(parents=True)
    (tmp_path / WANTED / "mosquitto.service").symlink_to("/lib/systemd/system/mosquitto.service")
    machine = Machine(tmp_path)
    assert machine.set_up(build) == ["the distribution's mosquitto is used; ours does not start"]
    assert not machine.starts_broker
