"""An image is not made when a board's kernel could not reach its card: packaging/image/drivers.py, on trees as the boards have them."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

IMAGE = Path(__file__).resolve().parents[3] / "packaging/image"
EARLY = [line for line in (IMAGE / "modules-early.txt").read_text().splitlines() if line and not line.startswith("#")]
BUILT_IN = ["clk-bcm2835", "pinctrl-bcm2835", "bcm2835-dma", "bcm2835-mailbox", "pwrseq_simple", "raspberrypi", "gpio-raspberrypi-exp"]
ALIASES = {
    "brcm,bcm2711-emmc2": "sdhci_iproc",
    "brcm,bcm2835-sdhost": "bcm2835",
    "regulator-fixed": "fixed",
    "regulator-gpio": "gpio_regulator",
    "rohm,bd71847": "bd718x7",
}
Tree: TypeAlias = Mapping[str, "bytes | Tree"]


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def device(compatible: str, **properties: bytes | Tree) -> dict[str, bytes | Tree]:
    """Underscores in names stand for hyphens."""
    return {"compatible": f"{compatible}\0".encode(), **{name.replace("_", "-"): value for name, value in properties.items()}}


CLOCKS = device("brcm,bcm2711-cprman", **{"#clock_cells": words(1), "phandle": words(7)})
PINS = device("raspberrypi,firmware-gpio", **{"#gpio_cells": words(2), "phandle": words(10)})
FIRMWARE = device("raspberrypi,bcm2835-firmware", gpio=PINS, mboxes=words(30))
MAILBOX = device("brcm,bcm2835-mbox", **{"#mbox_cells": words(0), "phandle": words(30)})
CARD = device("brcm,bcm2711-emmc2", clocks=words(7, 51), vqmmc_supply=words(32), vmmc_supply=words(33))
BOARD: Tree = device(
    "raspberrypi,4-model-b",
    soc={"cprman@7e101000": CLOCKS, "mailbox@7e00b880": MAILBOX, "firmware": FIRMWARE},
    emmc2bus={**device("simple-bus"), "mmc@7e340000": CARD},
    sd_io_1v8_reg=device("regulator-gpio", gpios=words(10, 4, 0), phandle=words(32)),
    sd_vcc_reg=device("regulator-fixed", gpio=words(10, 6, 0), phandle=words(33)),
)
"""A Pi 4, as far as its card is concerned."""


def blob(tree: Tree) -> bytes:
    """The tree, flattened (Devicetree Specification 5)."""
    strings = bytearray()

    def padded(raw: bytes) -> bytes:
        return raw + bytes(-len(raw) % 4)

    def node(name: str, inside: Tree) -> bytes:
        out = words(1) + padded(name.encode() + b"\0")
        for key, value in inside.items():
            if isinstance(value, bytes):
                out += words(3, len(value), len(strings)) + padded(value)
                strings.extend(key.encode() + b"\0")
        return out + b"".join(node(key, value) for key, value in inside.items() if not isinstance(value, bytes)) + words(2)

    structure = node("", tree) + words(4, 9)
    return words(0xD00DFEED, 40 + len(structure) + len(strings), 40, 40 + len(structure), 40, 17, 16, 0, 0, 0) + structure + strings


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    folder.mkdir()
    lines = [f"alias of:N*T*C{compatible}{more} {name}" for compatible, name in ALIASES.items() for more in ("", "C*")]
    (folder / "modules.alias").write_text("\n".join(["# Aliases extracted from modules themselves.", *lines, "alias fs-ext4 ext4", ""]))
    (folder / "modules.builtin").write_text("".join(f"kernel/drivers/some/{name}.ko\n" for name in BUILT_IN))
    return folder


def missing(modules: Path, board: Tree, early: list[str]) -> list[str]:
    """What the check says, a line each; empty when it is content."""
    listed, dtb = modules.parent / "early", modules.parent / "board.dtb"
    listed.write_text("".join(f"{each}.ko\n" for each in early))
    dtb.write_bytes(blob(board))
    done = subprocess.run([sys.executable, IMAGE / "drivers.py", modules, listed, dtb], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == bool(lines), lines
    return lines


def test_what_the_initramfs_loads_reaches_the_card_of_a_pi_4(modules: Path) -> None:
    assert missing(modules, BOARD, EARLY) == []


@pytest.mark.parametrize("driver", ["fixed", "gpio_regulator", "sdhci_iproc"])
def test_a_module_that_the_card_needs_is_to_be_listed_or_built_in(modules: Path, driver: str) -> None:
    (said,) = missing(modules, BOARD, [each for each in EARLY if each != driver])
    assert said.startswith("board.dtb: /")
    assert f"its driver {driver} is not built in" in said
    assert "modules-early.txt" in said
    with (modules / "modules.builtin").open("a") as file:
        file.write(f"kernel/drivers/some/{driver.replace('_', '-')}.ko\n")
    assert missing(modules, BOARD, [each for each in EARLY if each != driver]) == []


def test_so_is_what_a_supply_needs_itself(modules: Path) -> None:
    kept = [line for line in (modules / "modules.builtin").read_text().splitlines() if "gpio-raspberrypi-exp" not in line]
    (modules / "modules.builtin").write_text("\n".join(kept))
    (said,) = missing(modules, BOARD, EARLY)
    assert "/soc/firmware/gpio (raspberrypi,firmware-gpio): its driver gpio_raspberrypi_exp" in said


def test_a_supply_that_is_part_of_a_chip_needs_the_chips_driver(modules: Path) -> None:
    chip = device("rohm,bd71847", regulators={"LDO1": {"phandle": words(33)}})
    board = {name: value for name, value in BOARD.items() if name != "sd-vcc-reg"}
    assert "sd-vcc-reg" in BOARD
    (said,) = missing(modules, {**board, "pmic@4b": chip}, EARLY)
    assert "/pmic@4b (rohm,bd71847): its driver bd718x7" in said


def test_what_nobody_is_known_to_drive_is_told(modules: Path) -> None:
    (said,) = missing(modules, {**BOARD, "sd-vcc-reg": device("acme,supply", phandle=words(33))}, EARLY)
    assert "/sd-vcc-reg (acme,supply): no driver of it is known" in said


def test_what_is_off_is_no_concern_but_no_card_at_all_is(modules: Path) -> None:
    off = device("brcm,bcm2835-sdhost", status=b"disabled\0", vmmc_supply=words(34))
    unknown = device("acme,supply", phandle=words(34))
    assert missing(modules, {**BOARD, "mmc@7e202000": off, "other": unknown}, EARLY) == []
    assert missing(modules, {**device("board"), "mmc@7e202000": off}, EARLY) == ["board.dtb: it has no controller of a card that is on"]
