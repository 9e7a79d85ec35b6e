"""What is written down, and read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.runtime import ContainerState, SandboxState
from pinnace.core.pods.oci.bundles import signal_number
from pinnace.core.pods.oci.records import ContainerRecord, Exit, SandboxRecord, decoded, encoded, exit_decoded, exit_encoded, exit_unknown

TEXT = st.text(max_size=20)


@given(TEXT, TEXT, st.integers(0, 1 << 31), st.dictionaries(TEXT, TEXT, max_size=3), st.lists(TEXT, max_size=3))
def test_records_come_back_as_they_were(one: str, two: str, number: int, labels: dict[str, str], texts: list[str]) -> None:
    flag = number % 2 == 1
    sandbox = SandboxRecord(one, two, one, two, number, 1.5, two, one, ips=tuple(texts), share_pid=flag, labels=labels, annotations=labels)
    assert decoded(SandboxRecord, encoded(sandbox)) == sandbox
    container = ContainerRecord(
        one, two, one, two, number, one, two, one, 2.5, two, one, tty=flag, volumes=tuple(texts), shared=tuple(texts), labels=labels
    )
    assert decoded(ContainerRecord, encoded(container)) == container


def test_what_a_newer_one_wrote_is_read_by_an_older() -> None:
    record = SandboxRecord("i", "n", "ns", "u", 1, 2.0, "b", "l")
    content = {**json.loads(encoded(record)), "later": {"x": 1}}
    assert decoded(SandboxRecord, json.dumps(content).encode()) == record


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": 1}', b"\xff", b"null"])
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(SandboxRecord, content)


@pytest.mark.parametrize(
    ("left", "code", "reason"),
    [
        ({"exit_code": 0}, 0, "Completed"),
        ({"exit_code": 3}, 3, "Error"),
        ({"exit_code": 137, "signal": 9, "oom_kills": 1}, 137, "OOMKilled"),
        ({"exit_code": 1, "oom_kills": 2}, 1, "OOMKilled"),
        ({"exit_code": 0, "oom_kills": 2}, 0, "Completed"),
        ({"exit_code": 137, "signal": 9, "oom_kills": 0}, 137, "Error"),
        (
            {"exit_code": 128, "started": False, "error": "executable file `x` not found in $PATH: No such file or directory"},
            128,
            "StartError",
        ),
    ],
)
def test_ends_that_shims_leave(left: dict[str, object], code: int, reason: str) -> None:
    found = exit_decoded(json.dumps({"finished_at": 5.25, "started": True, "error": "", **left}).encode())
    assert (found.finished_at, found.exit_code, found.reason) == (5.25, code, reason)
    assert ("check command and args" in found.message) == (reason == "StartError")


def test_a_reason_cut_within_a_character() -> None:
    left = b'{"finished_at":5.25,"exit_code":128,"started":false,"error":"no program \xc3"}'
    assert (exit_decoded(left).exit_code, exit_decoded(left).message) == (128, "no program \ufffd")


def test_ends_that_the_agent_notes() -> None:
    for found in (exit_unknown(1.0, "gone"), Exit(2.0, 128, "StartError", "text")):
        assert exit_decoded(exit_encoded(found)) == found
    with pytest.raises(ValueError):
        exit_decoded(b"[]")


def test_what_is_shown() -> None:
    container = ContainerRecord("i", "s", "u", "n", 2, "sha", "name", "ref", 1.0, "/logs/0.log", "/cg")
    shown = container.shown(ContainerState.EXITED, 2.0, Exit(3.0, 4, "Error", "m"))
    assert (shown.started_at, shown.finished_at, shown.exit_code, shown.reason, shown.message) == (2.0, 3.0, 4, "Error", "m")
    running = container.shown(ContainerState.RUNNING, 2.0, None)
    assert (running.finished_at, running.exit_code, running.reason) == (0.0, 0, "")
    sandbox = SandboxRecord("i", "n", "ns", "u", 1, 2.0, "b", "l", ips=("10.0.0.2",))
    assert sandbox.shown(SandboxState.READY).ips == ("10.0.0.2",)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", 15),
        ("SIGTERM", 15),
        ("TERM", 15),
        ("sigint", 2),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMIN+1", 35),
        ("nonsense", 15),
        ("99", 15),
        ("0", 15),
    ],
)
def test_signals_of_images(name: str, number: int) -> None:
    assert signal_number(name) == number
