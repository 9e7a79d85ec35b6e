"""Log files in CRI's format: what kubectl logs and every log collector read."""

from __future__ import annotations

from contract.runtime.installations import Installation, Quirk
from contract.runtime.pods import TestPod, log_lines, until


async def test_streams_are_told_apart_and_in_order(pod: TestPod) -> None:
    container = await pod.run(("/bin/sh", "-c", "echo one; echo two; echo; echo bad >&2"))
    lines = log_lines(container.log_path)
    assert [line.text for line in lines if line.stream == "stdout"] == ["one", "two", ""]
    assert [line.text for line in lines if line.stream == "stderr"] == ["bad"]
    assert not any(line.is_partial for line in lines)


async def test_long_line_comes_in_parts_of_16_kib_at_most(pod: TestPod) -> None:
    container = await pod.run(("/bin/sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo next"))
    lines = log_lines(container.log_path)
    first = next(place for place, line in enumerate(lines) if not line.is_partial)
    assert first >= 2
    assert all(len(line.text) <= 16384 for line in lines)
    assert "".join(line.text for line in lines[: first + 1]) == "x" * 40000
    assert [(line.text, line.is_partial) for line in lines[first + 1 :]] == [("next", False)]


async def test_what_ends_without_a_newline_is_kept(pod: TestPod) -> None:
    container = await pod.run(("/bin/sh", "-c", "echo whole; printf half"))
    assert [line.text for line in log_lines(container.log_path)] == ["whole", "half"]


async def test_text_that_is_no_utf8_passes(pod: TestPod) -> None:
    container = await pod.run(("/bin/sh", "-c", r"printf 'a\377b\n'"))
    assert b" stdout F a\xffb\n" in container.log_path.read_bytes()


async def test_terminal_writes_one_stream(pod: TestPod) -> None:
    container = await pod.run(("/bin/sh", "-c", "test -t 0 && test -t 1 && echo terminal; echo bad >&2"), tty=True)
    lines = log_lines(container.log_path)
    assert {line.stream for line in lines} == {"stdout"}
    assert [line.text.rstrip("\r") for line in lines] == ["terminal", "bad"]


async def test_reopen_log_goes_on_in_a_new_file(pod: TestPod) -> None:
    container_id = await pod.shell("echo first; while ! test -e /tmp/go; do sleep 0.02; done; echo second; sleep 1000")
    await pod.until_said(container_id, "first")
    log = (await pod.runtime.container(container_id)).log_path
    old = log.rename(log.with_name("0.log.old"))
    await pod.runtime.reopen_log(container_id)
    await pod.exec(container_id, "touch /tmp/go")

    async def has_gone_on() -> bool:
        return log.exists() and "second" in log.read_text()

    await until(has_gone_on, what="the second line in the new file")
    assert [line.text for line in log_lines(old)] == ["first"]
    assert [line.text for line in log_lines(log)] == ["second"]


async def test_much_output_is_all_there(pod: TestPod, installation: Installation) -> None:
    linger = "; sleep 1" if Quirk.LOSES_TAIL in installation.quirks else ""
    container = await pod.run(("/bin/sh", "-c", f"seq 1 20000{linger}"))

    async def is_written() -> bool:
        return pod.said(container).endswith("\n20000\n")

    await until(is_written, what="the end of the log")
    assert pod.said(container).splitlines() == [str(number) for number in range(1, 20001)]
