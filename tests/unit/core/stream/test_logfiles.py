"""Reading logs: which lines, in what form, across rotation."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pinnace.core.base.containerlogs import rotated
from pinnace.core.stream.logfiles import LogOptions, LogReader, nanos

OLD = "2024-01-31T12:00:00.123456789Z"
NEW = "2024-01-31T12:00:05Z"


def line(text: str, *, at: str = OLD, stream: str = "stdout", tag: str = "F") -> str:
    return f"{at} {stream} {tag} {text}\n"


def everything(reader: LogReader) -> bytes:
    data = b""
    while part := reader.read():
        data += part
    return data


def shown(path: Path, options: LogOptions | None = None) -> bytes:
    reader = LogReader(path, options or LogOptions())
    try:
        return everything(reader) + reader.flush()
    finally:
        reader.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three files: compressed, rotated, present."""
    with gzip.open(tmp_path / "0.log.20240131-100000.gz", "wt") as file:
        file.write(line("a") + line("b"))
    (tmp_path / "0.log.20240131-110000").write_text(line("c") + line("d", stream="stderr"))
    (tmp_path / "0.log").write_text(line("e", at=NEW) + line("f", at=NEW))
    return tmp_path / "0.log"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), b"a\nb\nc\nd\ne\nf\n"),
        (LogOptions(tail=0), b""),
        (LogOptions(tail=1), b"f\n"),
        (LogOptions(tail=3), b"d\ne\nf\n"),
        (LogOptions(tail=5), b"b\nc\nd\ne\nf\n"),
        (LogOptions(tail=99), b"a\nb\nc\nd\ne\nf\n"),
        (LogOptions(limit=5), b"a\nb\nc"),
        (LogOptions(since=nanos(NEW)), b"e\nf\n"),
        (LogOptions(streams=frozenset({b"stderr"})), b"d\n"),
        (LogOptions(tail=1, timestamps=True), b"2024-01-31T12:00:05.000000000Z f\n"),
    ],
)
def test_what_is_shown(log: Path, options: LogOptions, text: bytes) -> None:
    assert shown(log, options) == text


def test_pieces_of_a_line_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_text(line("one ", tag="P") + line("line", tag="F") + line("next"))
    assert shown(tmp_path / "0.log", LogOptions(timestamps=True)) == f"{OLD} one line\n{OLD} next\n".encode()


def test_what_is_no_entry_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_bytes(b"garbage\n\n\xff\xfe\n" + line("good").encode() + line("half").encode()[:-1])
    assert shown(tmp_path / "0.log") == b"good\nhalf\n"


def test_following_across_two_rotations_at_once(log: Path) -> None:
    reader = LogReader(log, LogOptions(tail=1))
    assert everything(reader) == b"f\n"
    with log.open("a") as file:
        file.write(line("g"))
    log.rename(log.with_name("0.log.20240131-120000"))
    log.write_text(line("h"))
    log.rename(log.with_name("0.log.20240131-130000"))
    log.write_text(line("i"))
    assert everything(reader) == b"g\nh\ni\n"
    with log.open("a") as file:
        file.write(line("j"))
    assert everything(reader) == b"j\n"
    reader.close()


def test_following_while_the_new_file_is_yet_to_come(log: Path) -> None:
    reader = LogReader(log, LogOptions(tail=0))
    assert everything(reader) == b""
    log.rename(log.with_name("0.log.20240131-120000"))
    assert everything(reader) == b""
    log.write_text(line("x"))
    assert everything(reader) == b"x\n"
    reader.close()


def test_a_file_cut_short_is_read_anew(log: Path) -> None:
    reader = LogReader(log, LogOptions(tail=0))
    assert everything(reader) == b""
    log.write_text(line("x"))
    assert everything(reader) == b"x\n"
    reader.close()


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert shown(tmp_path / "0.log") == b""
    assert rotated(tmp_path / "none" / "0.log") == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-01T00:00:01Z", 1), ("1970-01-01T01:00:01+01:00", 1), ("1969-12-31T23:30:01-00:30", 1)],
)
def test_moments(text: str, seconds: int) -> None:
    assert nanos(text) == seconds * 10**9
    with pytest.raises(ValueError, match="RFC 3339"):
        nanos("yesterday")
