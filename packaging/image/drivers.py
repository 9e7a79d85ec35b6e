"""Whether the card can be reached: what its controllers need by a board's device tree has a driver in the kernel or in the initramfs.

`python packaging/image/drivers.py MODULES EARLY DTB...`: MODULES is the folder of a kernel's modules, EARLY the initramfs's list of them.
A controller waits for its suppliers (regulators, their pins, clocks, DMA) until each has a driver; modules.dep knows nothing of these, they
stand in the device tree only. Exits 1 and says what is missing.
"""

from __future__ import annotations

import argparse
import re
import struct
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

_BEGIN, _END, _PROPERTY, _NOP = 1, 2, 3, 4
"""Tokens of a flattened device tree (Devicetree Specification 5.4); the ninth ends it."""
_CELLS: Final = {"clocks": "#clock-cells", "dmas": "#dma-cells", "mboxes": "#mbox-cells", "power-domains": "#power-domain-cells"}
_CELLS_OF_PINS: Final = "#gpio-cells"
_PINS: Final = re.compile(r"(.*-)?gpios?")
_ALONE: Final = re.compile(r".*-supply|pinctrl-\d+|mmc-pwrseq|firmware")
"""Properties of phandles that nothing follows."""
_IN_ANY_KERNEL: Final = frozenset({"fixed-clock", "simple-bus", "simple-mfd"})
_BUILT_IN: Final = {
    "brcm,bcm2711-cprman": "clk_bcm2835",
    "brcm,bcm2711-gpio": "pinctrl_bcm2835",
    "brcm,bcm2835-cprman": "clk_bcm2835",
    "brcm,bcm2835-dma": "bcm2835_dma",
    "brcm,bcm2835-gpio": "pinctrl_bcm2835",
    "brcm,bcm2835-mbox": "bcm2835_mailbox",
    "mmc-pwrseq-simple": "pwrseq_simple",
    "raspberrypi,bcm2835-firmware": "raspberrypi",
    "raspberrypi,firmware-clocks": "clk_raspberrypi",
    "raspberrypi,firmware-gpio": "gpio_raspberrypi_exp",
}
"""Drivers that a kernel may have built in: it lists what they drive for its modules only."""


class Node(NamedTuple):
    path: str
    properties: dict[str, bytes]

    def cells(self, name: str) -> list[int]:
        return [number for (number,) in struct.iter_unpack(">I", self.properties.get(name, b""))]

    @property
    def compatible(self) -> list[str]:
        return self.properties.get("compatible", b"").decode().split("\0")[:-1]

    @property
    def is_on(self) -> bool:
        return self.properties.get("status", b"okay\0") in (b"okay\0", b"ok\0")


class Tree:
    def __init__(self, blob: bytes) -> None:
        self.nodes = {node.path: node for node in _nodes(blob)}
        self._by_phandle = {handle: node for node in self.nodes.values() for handle in node.cells("phandle")}

    def needed(self, node: Node) -> Iterator[Node]:
        """The devices that one waits for: the nearest around it, and those that its properties name."""
        yield from self._device(node.path.rpartition("/")[0])
        for name in node.properties:
            for found in self._named(node, name):
                yield from self._device(found.path)

    def _device(self, path: str) -> Iterator[Node]:
        """The node there, or the first around it that is a device."""
        while path and not self.nodes[path].compatible:
            path = path.rpartition("/")[0]
        if path and self.nodes[path].is_on:
            yield self.nodes[path]

    def _named(self, node: Node, name: str) -> Iterator[Node]:
        counted = _CELLS_OF_PINS if _PINS.fullmatch(name) else _CELLS.get(name, "")
        if not counted and not _ALONE.fullmatch(name):
            return
        cells = node.cells(name)
        while cells:
            found = self._by_phandle.get(cells.pop(0))
            if found is None:  # a place that is left empty
                continue
            yield found
            del cells[: found.cells(counted)[0] if counted else 0]


def _nodes(blob: bytes) -> Iterator[Node]:
    magic, _, at, strings = struct.unpack_from(">4I", blob)
    if magic != 0xD00DFEED:
        raise SystemExit("this is no device tree")
    around: list[Node] = []
    while True:
        (token,) = struct.unpack_from(">I", blob, at)
        at += 4
        if token == _BEGIN:
            end = blob.index(b"\0", at)
            name = blob[at:end].decode()
            around.append(Node(f"{around[-1].path}/{name}" if around else "", {}))
            at = _aligned(end + 1)
        elif token == _END:
            yield around.pop()
        elif token == _PROPERTY:
            size, name_at = struct.unpack_from(">2I", blob, at)
            start = strings + name_at
            around[-1].properties[blob[start : blob.index(b"\0", start)].decode()] = blob[at + 8 : at + 8 + size]
            at = _aligned(at + 8 + size)
        elif token != _NOP:
            return


def _aligned(at: int) -> int:
    return (at + 3) & ~3


class Kernel:
    def __init__(self, modules: Path, early: Path) -> None:
        aliases = [line.split() for line in (modules / "modules.alias").read_text().splitlines()]
        self._drivers = [(words[1], words[2]) for words in aliases if words[1].startswith("of:")]
        self._there = {_name(line) for file in (modules / "modules.builtin", early) for line in file.read_text().split()}

    def missing(self, node: Node) -> str:
        """What is to be done that a device gets its driver, "" when it gets one."""
        if _IN_ANY_KERNEL & set(node.compatible):
            return ""
        wanted = f"of:N{node.path.rpartition('/')[2].partition('@')[0]}T(null){''.join(f'C{each}' for each in node.compatible)}"
        drivers = {driver for pattern, driver in self._drivers if fnmatchcase(wanted, pattern)}
        drivers |= {_BUILT_IN[each] for each in node.compatible if each in _BUILT_IN}
        if drivers & self._there:
            return ""
        if not drivers:
            return "no driver of it is known: name one in packaging/image/drivers.py that the kernel has built in"
        return f"its driver {' or '.join(sorted(drivers))} is not built in: write it into packaging/image/modules-early.txt"


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def missing(tree: Tree, kernel: Kernel) -> Iterator[str]:
    """What keeps the controllers of cards from being there. One that is off is no concern."""
    controllers = [node for path, node in tree.nodes.items() if re.search(r"/mmc(@[^/]*)?$", path) and node.is_on]
    if not controllers:
        yield "it has no controller of a card that is on"
    reached = {each.path: each for each in controllers}
    open_ends = list(controllers)
    while open_ends:
        node = open_ends.pop()
        if said := kernel.missing(node):
            yield f"{node.path} ({', '.join(node.compatible)}): {said}"
        for each in tree.needed(node):
            if each.path not in reached:
                reached[each.path] = each
                open_ends.append(each)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", type=Path)
    parser.add_argument("early", type=Path)
    parser.add_argument("trees", type=Path, nargs="+", metavar="DTB")
    args = parser.parse_args()
    kernel = Kernel(args.modules, args.early)
    said = [f"{path.name}: {each}" for path in args.trees for each in missing(Tree(path.read_bytes()), kernel)]
    print("\n".join(said), end="\n" if said else "", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
