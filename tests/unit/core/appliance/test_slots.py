"""Which root is started: what the node's programs write and what the initramfs's shell makes of it, in one suite."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pinnace.core.appliance.slots import TRIES, GivenUp, Slots
from pinnace.core.base.errors import ConfigError, RefusedError

IMAGE = Path(__file__).resolve().parents[4] / "packaging/image"
INITRAMFS = IMAGE / "initramfs"
SHELLS = [[shell, *more] for shell, more in (("busybox", ["sh"]), ("dash", [])) if shutil.which(shell)]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def card(request: pytest.FixtureRequest, tmp_path: Path) -> Card:
    return Card(tmp_path, request.param)


class Card:
    """The data partition's state, and starts of the board from it."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.state, self.run = folder / "boot", folder / "run"
        self._shell = shell
        self.state.mkdir()

    def sh(self, script: str) -> str:
        command = [*self._shell, "-euc", f". {INITRAMFS / 'slots.sh'}\n{script}"]
        return subprocess.run(
            command, env={"BOOT": str(self.state), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
        ).stdout.strip()

    def end_trial(self) -> bool:
        """As pinnace-trial.timer does; whether the board is restarted."""
        programs, restarted = self.run.parent / "bin", self.run.parent / "restarted"
        programs.mkdir(exist_ok=True)
        (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >{restarted}\n')
        (programs / "systemctl").chmod(0o755)
        restarted.unlink(missing_ok=True)
        script = (IMAGE / "files/usr/lib/pinnace/end-trial").read_text()
        for place, stand_in in (("/data/boot/", f"{self.state}/"), ("/run/pinnace-boot/", f"{self.run}/")):
            assert place in script
            script = script.replace(place, stand_in)
        subprocess.run([*self._shell, "-c", script], env={"PATH": f"{programs}:/usr/bin:/bin"}, stdout=subprocess.DEVNULL, check=True)
        return restarted.exists() and restarted.read_text() == "reboot --force\n"

    def start(self) -> Slots:
        """As the initramfs does; what runs then."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.run.mkdir()
        chosen = self.sh("slot_choose").split()
        (self.run / "slot").write_text(chosen[0] + "\n")
        (self.run / "partitions").write_text("/dev/mmcblk0p\n")
        if chosen[1:]:
            (self.run / "trial").touch()
        return Slots(self.state, self.run)


def test_a_new_card_starts_the_first_root(card: Card) -> None:
    slots = card.start()
    assert (slots.running, slots.other, slots.is_trial, slots.given_up) == ("a", "b", False, None)
    assert (str(slots.partition("a")), str(slots.partition("b"))) == ("/dev/mmcblk0p2", "/dev/mmcblk0p3")


def test_an_upgrade_that_gets_ready_is_kept(card: Card) -> None:
    slots = card.start()
    assert slots.begin() == "b"
    slots.try_next("b")
    slots = card.start()
    assert (slots.running, slots.is_trial) == ("b", True)
    slots.confirm()
    for _ in range(TRIES + 2):
        slots = card.start()
        assert (slots.running, slots.is_trial) == ("b", False)
    assert slots.begin() == "a", "the next one goes where the former one was"


def test_an_upgrade_that_never_gets_ready_is_given_up(card: Card) -> None:
    slots = card.start()
    slots.begin()
    slots.try_next("b")
    assert [card.start().running for _ in range(TRIES + 2)] == ["b"] * TRIES + ["a"] * 2
    given_up = card.start().given_up
    assert given_up is not None
    assert given_up.slot == "b"
    assert "not Ready" in given_up.reason
    slots = card.start()
    slots.told()
    assert card.start().given_up is None


def test_a_trial_that_was_not_ready_in_time_ends_with_the_next_start(card: Card) -> None:
    card.start().try_next("b")
    card.start().give_up()
    slots = card.start()
    assert (slots.running, slots.is_trial) == ("a", False)


def test_a_trial_that_hangs_is_over_when_its_time_is(card: Card) -> None:
    card.start().try_next("b")
    card.start()
    assert card.end_trial()
    slots = card.start()
    assert (slots.running, slots.is_trial) == ("a", False)
    assert slots.given_up is not None


def test_a_root_that_is_on_trial_no_more_goes_on(card: Card) -> None:
    card.start().try_next("b")
    slots = card.start()
    slots.confirm()
    assert not card.end_trial()
    slots.begin()
    slots.try_next("a")
    assert not card.end_trial(), "the next one is tried at the next start"
    slots = card.start()
    assert (slots.running, slots.is_trial) == ("a", True)


def test_a_power_cut_while_a_trial_starts_costs_one_try_only(card: Card) -> None:
    card.start().try_next("b")
    card.start()
    slots = card.start()
    assert (slots.running, slots.is_trial) == ("b", True)
    slots.confirm()
    assert card.start().running == "b"


@pytest.mark.parametrize("left", range(TRIES + 1))
def test_a_power_cut_while_an_upgrade_is_kept_leaves_it_kept(card: Card, left: int) -> None:
    (card.state / "active").write_text("b\n")
    (card.state / "trial").write_text(f"b {left}\n")
    slots = card.start()
    assert (slots.running, slots.is_trial, slots.given_up) == ("b", False, None)
    assert not (card.state / "trial").exists()


def test_while_a_slot_is_written_it_is_not_started(card: Card) -> None:
    slots = card.start()
    slots.try_next("b")
    assert slots.begin() == "b"
    assert card.start().running == "a", "power was cut in the middle of writing"


def test_a_root_on_trial_is_not_upgraded(card: Card) -> None:
    card.start().try_next("b")
    with pytest.raises(RefusedError, match="on trial"):
        card.start().begin()


@pytest.mark.parametrize("text", ["", "c 3\n", "b\n", "b many\n", "b -1\n", "b 10\n", "\0\0\0", "b 3; reboot\n"])
def test_a_damaged_trial_counts_as_none_or_is_given_up(card: Card, text: str) -> None:
    (card.state / "trial").write_text(text)
    runs = [card.start().running for _ in range(5)]
    assert runs[-1] == "a"
    assert not (card.state / "trial").exists()


@pytest.mark.parametrize("text", ["", "x\n", "\0"])
def test_a_damaged_choice_starts_the_first_root(card: Card, text: str) -> None:
    (card.state / "active").write_text(text)
    assert card.start().running == "a"


def test_the_damaged_roots_slot_is_the_one_to_write(card: Card) -> None:
    (card.state / "active").write_text("b\n")
    slots = card.start()
    (card.run / "slot").write_text("a\n")  # the initramfs found b damaged
    assert slots.begin() == "b"
    assert card.start().running == "a"


def test_elsewhere_there_are_no_slots(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pinnace install"):
        _ = Slots(tmp_path, tmp_path).running


def test_words_survive_both_sides(card: Card) -> None:
    card.sh("slot_give_up b 'it is damaged'")
    assert card.start().given_up == GivenUp("b", "it is damaged")
