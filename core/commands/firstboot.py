"""Make this board what pinnace.yaml on its boot partition says: name, wifi, log-in, lamps; then join the cloud, however long that takes.

The image runs it at each start that has news (packaging/image). What it did and what is wrong is on the console and in pinnace-report.txt
beside pinnace.yaml. Where something is wrong, a board that is a node already goes on as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from pinnace.core.appliance.board import Board
from pinnace.core.appliance.report import Report, told
from pinnace.core.appliance.settling import UNITS, board_name, files
from pinnace.core.appliance.slots import Slots
from pinnace.core.appliance.wishes import Fault, read
from pinnace.core.base.errors import ConfigError
from pinnace.core.base.notices import Notices
from pinnace.core.base.observe import logs
from pinnace.core.base.version import VERSION
from pinnace.core.commands.join import CONFIG
from pinnace.core.commands.parts import joined
from pinnace.core.commands.parts.joining import Joining

SUMMARY = "make this board what pinnace.yaml says, and join"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--boot", type=Path, default=Path("/boot/firmware"), metavar="DIR", help="the boot partition (%(default)s)")
    parser.add_argument("--data", type=Path, default=Path("/data"), metavar="DIR", help="the data partition (%(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("/run/pinnace-boot"), metavar="DIR", help="the initramfs's word (%(default)s)")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="where the node is kept (%(default)s)")
    parser.add_argument("--attempts", type=int, default=0, metavar="N", help="join so often at most (default: until it is done)")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="%(default)s")


def run(args: argparse.Namespace) -> int:
    logs.configure(args.log_level)
    board = Board(args.boot, args.data, args.run_dir, args.root)
    report, teller = Report(VERSION, was_node=board.is_node), _Teller(board)
    joining, raw = _joining(board, report, args.root)
    changed = []
    if joining is not None:
        report.name = joining.name
        try:
            changed = board.settle(files(joining.wishes, report.name))
        except OSError as error:
            _note_unwritable(report, error)
        board.rename(report.name)
    slots = Slots(args.data / "boot", args.run_dir)
    _notes(board, report, slots)
    if teller.tell(report) and not board.worn:
        with contextlib.suppress(OSError):  # it is told again then
            slots.told()
    Notices().ready()  # the network may start
    if joining is None or board.worn:
        return 0
    if units := [UNITS[each] for each in changed if each in UNITS]:  # at the first start, too: some do not wait for this
        board.systemctl("--no-block", "try-restart", *units)
    for sentence in joining.attempts(board, limit=args.attempts):
        report.cloud, report.is_joined, report.address = sentence, joining.is_done, joining.address
        teller.tell(report)
    if joining.is_done:
        _note_applied(board, report, raw)
        if teller.tell(report) and not report.notes:
            _note_told(board)
        board.systemctl("--no-block", "restart" if joining.is_changed else "start", "pinnace-edge.service")
    return 0 if joining.is_done else 1


def _joining(board: Board, report: Report, root: Path) -> tuple[Joining | None, bytes]:
    """What pinnace.yaml wishes, and the file; None where there is something to mend. Without a token where the cloud need not be asked."""
    try:
        raw = board.wanted()
    except OSError as error:
        raise ConfigError(f"the boot partition cannot be read: {error.strerror}; put the card into another computer and look") from error
    if raw is None:
        report.faults = [Fault(0, "the file pinnace.yaml is not there; the image has one, docs/flash-and-run.md shows it")]
        return None, b""
    wishes, report.faults = read(raw, needs_token=not board.is_node)
    if wishes is None:
        return None, raw
    name = wishes.node or joined.name(root / CONFIG) or board_name(wishes, board.serial, board.machine_id)
    joining = Joining(wishes, name, root=root, machine=board.machine_id)
    if not wishes.token and joining.flaw():
        report.faults = read(raw)[1]
        return None, raw
    return joining, raw


def _notes(board: Board, report: Report, slots: Slots) -> None:
    """What else the person must know."""
    if board.worn:
        report.notes.append(board.worn[0].upper() + board.worn[1:] + ".")
    if board.has_damaged_root:
        report.notes.append("One of the two roots on the card is damaged, the other one runs. `pinnace upgrade FILE` writes it anew.")
    given_up = slots.given_up
    if given_up is not None:
        report.notes.append(told(given_up))


def _note_applied(board: Board, report: Report, raw: bytes) -> None:
    try:
        board.note_applied(raw)
    except OSError as error:
        _note_unwritable(report, error)


def _note_told(board: Board) -> None:
    with contextlib.suppress(OSError):  # the next start has news then, and tells the same again
        board.note_told()


def _note_unwritable(report: Report, error: OSError) -> None:
    note = f"the card cannot be written ({error.strerror or error}): what it had before counts. Is it full, or worn out?"
    if note not in report.notes:
        report.notes.append(note)


class _Teller:
    """Tells the report: on the consoles what is new in it, on the boot partition all of it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._told: set[str] = set()

    def tell(self, report: Report) -> bool:
        """Whether the report stands on the boot partition."""
        text = report.text(time.time())
        for line in text.splitlines():
            if line and line not in self._told and not line.startswith("("):
                self._say(f"pinnace: {line}")
        self._told = set(text.splitlines())
        try:
            self._board.tell(text)
        except OSError as error:
            self._say(f"pinnace: the report cannot be written to the boot partition: {error.strerror or error}")
            return False
        return True

    def _say(self, line: str) -> None:
        print(line, flush=True)
        self._board.say(line)
