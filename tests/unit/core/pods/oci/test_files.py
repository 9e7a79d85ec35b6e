"""Files that are whole, frames, and small readings of the machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.deep import deepen

from pinnace.core.base.runtime import Dns
from pinnace.core.pods.oci import files
from pinnace.core.pods.oci.frames import frame, read_frame
from pinnace.core.pods.oci.host import device, devices, survey
from pinnace.core.pods.oci.sandboxes import resolv_conf


def test_folders_go_whole_and_what_was_half_gone_is_swept(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep/er").mkdir(parents=True)
    (tmp_path / f"{files.GONE}old/x").mkdir(parents=True)
    files.remove_folder(tmp_path / "a")
    files.remove_folder(tmp_path / "never")
    files.sweep(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["b"]


def test_folders_go_however_deep_a_container_made_them(tmp_path: Path) -> None:
    deepen(tmp_path / "a")
    deepen(tmp_path / f"{files.GONE}b")
    files.remove_folder(tmp_path / "a")
    files.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_start_time_tells_processes_apart() -> None:
    assert files.start_time(os.getpid()) > 0
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert files.start_time(child.pid) == 0, "one that has ended is none, though its parent has not asked yet"
    child.wait()
    assert files.start_time(child.pid) == 0


@given(st.lists(st.tuples(st.sampled_from([b"1", b"2", b"E"]), st.binary(max_size=300)), max_size=8), st.integers(1, 40))
def test_frames_come_back_however_they_are_cut(sent: list[tuple[bytes, bytes]], step: int) -> None:
    async def both() -> list[tuple[bytes, bytes] | None]:
        reader = asyncio.StreamReader()
        whole = b"".join(frame(kind, body) for kind, body in sent)
        for at in range(0, len(whole), step):
            reader.feed_data(whole[at : at + step])
        reader.feed_eof()
        return [await read_frame(reader) for _ in range(len(sent) + 1)]

    assert asyncio.run(both()) == [*sent, None]


async def test_frame_that_is_too_large_or_cut_off() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(frame(b"1", b"abc")[:-1])
    reader.feed_eof()
    assert await read_frame(reader) is None
    reader = asyncio.StreamReader()
    reader.feed_data(b"1\0\0\0\xff\xff\xff\xff")
    with pytest.raises(ValueError):
        await read_frame(reader)


@pytest.mark.parametrize(
    ("dns", "text"),
    [
        (Dns(), ""),
        (Dns(("1.1.1.1", "::1")), "nameserver 1.1.1.1\nnameserver ::1\n"),
        (Dns(("1.1.1.1",), ("a", "b"), ("ndots:5", "x")), "search a b\nnameserver 1.1.1.1\noptions ndots:5 x\n"),
    ],
)
def test_resolv_conf(dns: Dns, text: str) -> None:
    assert resolv_conf(dns) == text


def test_devices_of_this_machine() -> None:
    null = device(Path("/dev/null"), "/dev/shown")
    assert null is not None
    assert (null.path, null.kind, null.major, null.minor) == ("/dev/shown", "c", 1, 3)
    assert device(Path("/etc/passwd")) is None
    assert device(Path("/no/such")) is None
    found = {each.path for each in devices()}
    assert "/dev/null" in found
    assert not any(each.startswith(("/dev/pts/", "/dev/shm/")) for each in found)


def test_survey_of_this_machine() -> None:
    host = survey()
    assert host.least_oom_score >= -1000
    assert all(each.isupper() for each in host.capabilities)
