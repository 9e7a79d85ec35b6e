"""A root's file: sealed, written, read back, and refused when it is anything else."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

import pytest

from pinnace.core.appliance import rootfile
from pinnace.core.base.errors import RefusedError

CONTENT = b"hsqs" + bytes(36) + struct.pack("<Q", 10_000) + bytes(range(256)) * 39


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "pinnace-0.2.0.root"
    path.write_bytes(CONTENT[:10_000])
    rootfile.seal(path, "0.2.0")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "partition"
    path.write_bytes(b"\xff" * 40_000)
    return path


def test_a_seal_says_what_it_is(sealed: Path) -> None:
    found = rootfile.look(sealed)
    assert (found.version, found.size) == ("0.2.0", 12288)
    assert found.sha256 == hashlib.sha256(sealed.read_bytes()[:12288]).hexdigest()
    assert sealed.stat().st_size == 12288 + rootfile.BLOCK


def test_writes_and_reads_back(sealed: Path, target: Path) -> None:
    with sealed.open("rb") as source:
        found = rootfile.write(source, target, sha256=hashlib.sha256(sealed.read_bytes()).hexdigest().upper())
    assert found.version == "0.2.0"
    assert target.read_bytes()[: sealed.stat().st_size] == sealed.read_bytes()
    assert len(target.read_bytes()) == 40_000


class Trickle(io.RawIOBase):
    """A source that gives a few bytes at a time, as a network does."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._content.read(min(size, 1000))


def test_writes_what_comes_in_small_pieces(sealed: Path, target: Path) -> None:
    assert rootfile.write(Trickle(sealed.read_bytes()), target).version == "0.2.0"  # type: ignore[arg-type]  # reads like one


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw[:-1], "ended after"),
        (lambda raw: raw[:5000], "ended after"),
        (lambda raw: raw + b"x", "goes on behind its end"),
        (lambda raw: b"PK" + raw[2:], "no root of Pinnace"),
        (lambda raw: b"", "no root of Pinnace"),
        (lambda raw: raw[:6000] + b"X" + raw[6001:], "what was read back"),
        (lambda raw: raw[:12288] + b"{}".ljust(rootfile.BLOCK), "seal is missing"),
        (lambda raw: raw[:12288].ljust(16384, b"\0"), "seal is missing"),
        (lambda raw: raw[:12288] + raw[12288:].replace(b"12288", b"12287"), "do not belong together"),
    ],
)
def test_what_is_not_whole_is_refused(sealed: Path, target: Path, change: object, told: str) -> None:
    raw = change(sealed.read_bytes())  # type: ignore[operator]  # a lambda
    with pytest.raises(RefusedError, match=told):
        rootfile.write(io.BytesIO(raw), target)


def test_what_was_not_asked_for_is_refused(sealed: Path, target: Path) -> None:
    with sealed.open("rb") as source, pytest.raises(RefusedError, match="--sha256"):
        rootfile.write(source, target, sha256="0" * 64)


@pytest.mark.parametrize("text", ["no squashfs at all", ""])
def test_only_a_squashfs_is_sealed(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(RefusedError):
        rootfile.seal(tmp_path / "x", "1")
