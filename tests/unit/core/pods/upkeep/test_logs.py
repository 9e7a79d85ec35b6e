"""Rotation on real files, with a writer that keeps its file until told to reopen it, as a runtime does."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from fakes.clock import FakeClock

from pinnace.core.base.containerlogs import pieces
from pinnace.core.base.runtime import Container, ContainerState, RuntimeFailed
from pinnace.core.pods.upkeep.logs import LogRotation, tidy


class Writer:
    """One container that writes its log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = ContainerState.RUNNING
        self.is_broken = False
        self.hangs: asyncio.Event | None = None
        """Set once somebody waits for an answer that does not come."""
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        return [Container("id", "s", "c", 0, self.state, "i", "i", "i", 1.0, log_path=self.path)]

    async def reopen_log(self, container_id: str) -> None:
        if self.hangs is not None:
            self.hangs.set()
            await asyncio.Event().wait()
        if self.is_broken:
            raise RuntimeFailed("cannot now")
        self.close()
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "0.log")


def rotation(writer: Writer, clock: FakeClock, files: int = 4) -> LogRotation:
    return LogRotation(writer, max_size="1Ki", max_files=files, clock=clock)


async def test_a_grown_file_moves_and_writing_goes_on(writer: Writer) -> None:
    look = rotation(writer, FakeClock())
    writer.write(b"a" * 1023)
    await look.look()
    assert pieces(writer.path) == []
    writer.write(b"b")
    await look.look()
    writer.write(b"new")
    assert writer.path.read_bytes() == b"new"
    (old,) = pieces(writer.path)
    assert old.name == "0.log.20270115-080000"
    assert old.read_bytes() == b"a" * 1023 + b"b"
    writer.close()


async def test_older_ones_are_packed_and_the_oldest_go(writer: Writer) -> None:
    clock = FakeClock()
    look = rotation(writer, clock, files=4)
    for number in range(6):
        writer.write(str(number).encode() * 1024)
        await look.look()
        await clock.advance(10)
    names = [each.name for each in pieces(writer.path)]
    assert names == ["0.log.20270115-080030.gz", "0.log.20270115-080040.gz", "0.log.20270115-080050"]
    with gzip.open(writer.path.with_name(names[0])) as packed:
        assert packed.read() == b"3" * 1024
    assert writer.path.stat().st_size == 0
    writer.close()


async def test_nothing_is_lost_when_the_writer_cannot_reopen(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    look = rotation(writer, clock)
    writer.write(b"x" * 2000)
    writer.is_broken = True
    await look.look()
    await clock.advance(10)
    await look.look()
    writer.write(b"more")
    assert writer.path.read_bytes() == b"x" * 2000 + b"more"
    assert caplog.text.count("pods.log.not-rotated") == 1, "said once"
    writer.is_broken = False
    await look.look()
    assert writer.path.read_bytes() == b""
    writer.close()


@pytest.mark.parametrize("what", ["an agent killed between renaming and reopening", "somebody who removed it"])
async def test_a_log_that_lost_its_name_is_written_and_rotated_again(writer: Writer, what: str) -> None:
    writer.write(b"a" * 2000)
    if what.startswith("an agent"):
        writer.path.rename(writer.path.with_name("0.log.20270115-075950"))
    else:
        writer.path.unlink()
    clock = FakeClock()
    look = rotation(writer, clock)
    await look.look()
    writer.write(b"b" * 2000)
    assert writer.path.read_bytes() == b"b" * 2000
    await clock.advance(10)
    await look.look()
    assert writer.path.read_bytes() == b""
    assert pieces(writer.path)[-1].read_bytes() == b"b" * 2000
    writer.close()


async def test_an_agent_that_ends_while_the_writer_reopens_leaves_the_name(writer: Writer) -> None:
    writer.write(b"x" * 2000)
    writer.hangs = asyncio.Event()
    looking = asyncio.create_task(rotation(writer, FakeClock()).look())
    await writer.hangs.wait()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    writer.write(b"more")
    assert writer.path.read_bytes() == b"x" * 2000 + b"more"
    assert pieces(writer.path) == []
    writer.close()


async def test_a_container_whose_log_the_runtime_does_not_name_is_passed_over(writer: Writer) -> None:
    writer.path = Path()
    await LogRotation(writer, max_size="1", max_files=4).look()
    writer.close()


async def test_two_rotations_in_one_second_and_containers_that_ended(writer: Writer) -> None:
    look = rotation(writer, FakeClock())
    for _ in range(2):
        writer.write(b"x" * 2000)
        await look.look()
    (old,) = pieces(writer.path)
    assert old.name.endswith(".gz")
    assert writer.path.stat().st_size == 2000
    writer.state = ContainerState.EXITED
    old.unlink()
    await look.look()
    assert pieces(writer.path) == []
    writer.close()


def test_what_an_interrupted_packing_left_is_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    for name in ("0.log.1", "0.log.1.gz", "0.log.2", "0.log.2.tmp", "1.log.1"):
        (tmp_path / name).write_bytes(b"x")
    tidy(path, 5)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.log.1.gz", "0.log.2.gz", "1.log.1"]
    assert (tmp_path / "0.log.1.gz").read_bytes() == b"x"
