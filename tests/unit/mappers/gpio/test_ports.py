"""The board's own pins through RPi.GPIO's interface, which only exists on a Raspberry Pi."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.mappers.gpio.ports import RaspberryPort, is_raspberry


class Board:
    """RPi.GPIO as rpi-lgpio has it, as far as an output needs it: levels survive setup, an unclaimed pin cannot be written."""

    BCM, OUT = 11, 0

    def __init__(self, *, chip_error: Exception | None = None, busy: int = -1) -> None:
        self.levels = {26: 1, 13: 0}
        self.claimed: set[int] = set()
        self._chip_error = chip_error
        self._busy = busy

    def setwarnings(self, _on: bool) -> None: ...

    def setmode(self, mode: int) -> None:
        assert mode == self.BCM
        if self._chip_error is not None:
            raise self._chip_error

    def setup(self, pin: int, direction: int) -> None:
        assert direction == self.OUT
        if pin == self._busy:
            raise RuntimeError("GPIO busy")
        self.claimed.add(pin)

    def output(self, pin: int, level: int) -> None:
        if pin not in self.claimed:
            raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
        self.levels[pin] = level

    def input(self, pin: int) -> bool:
        return bool(self.levels[pin])


def install(monkeypatch: pytest.MonkeyPatch, board: Board | None) -> None:
    package = ModuleType("RPi")
    if board is not None:
        vars(package)["GPIO"] = board
    monkeypatch.setitem(sys.modules, "RPi", package)
    monkeypatch.setenv("LG_WD", "/tmp")


def test_outputs_keep_their_level_until_written_and_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    install(monkeypatch, board)
    port = RaspberryPort()
    port.set_up(26)
    assert port.read(26) == 1
    port.write(26, 0)
    port.close()
    assert (board.levels[26], board.claimed) == (0, {26})


@pytest.mark.parametrize(
    ("board", "complaint"),
    [
        (None, "RPi.GPIO cannot be used here .* install rpi-lgpio on a Raspberry Pi, or use --port simulated"),
        (Board(chip_error=SystemError("can not open gpiochip")), "the GPIO chip cannot be opened: can not open gpiochip; run as root"),
    ],
)
def test_a_machine_without_pins_says_what_to_do(monkeypatch: pytest.MonkeyPatch, board: Board | None, complaint: str) -> None:
    install(monkeypatch, board)
    with pytest.raises(ConfigError, match=complaint):
        RaspberryPort()


def test_a_pin_that_somebody_else_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Board(busy=26))
    with pytest.raises(ConfigError, match="pin BCM 26 cannot be made an output: GPIO busy"):
        RaspberryPort().set_up(26)


@pytest.mark.parametrize(("text", "expected"), [(b"Raspberry Pi 4 Model B Rev 1.2\0", True), (b"linux,dummy-virt\0", False)])
def test_a_raspberry_is_known_by_its_device_tree(tmp_path: Path, text: bytes, expected: bool) -> None:
    path = tmp_path / "model"
    assert not is_raspberry(path)
    path.write_bytes(text)
    assert is_raspberry(path) is expected
