"""Calls that may never come back hold up nobody but who asked."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from pinnace.core.base.aio.aside import Aside


async def test_gives_what_the_function_gives() -> None:
    aside = Aside()
    assert await aside.call("a", "adding", lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await aside.call("a", "looking", os.stat, "/nowhere")


async def test_an_error_that_is_a_timeout_stays_what_it_is() -> None:
    def refuse() -> None:
        raise TimeoutError("of the file system")

    with pytest.raises(TimeoutError, match="of the file system"):
        await Aside().call("a", "looking", refuse)


async def test_many_that_hang_hold_up_no_other_and_end_nothing() -> None:
    """More than the loop's own pool has threads."""
    back = threading.Event()
    aside = Aside(seconds=3)
    hung = await asyncio.gather(*(aside.call(each, f"volume {each}", back.wait) for each in range(50)), return_exceptions=True)
    assert all("no answer within 3 s" in str(each) for each in hung)
    assert "volume 7" in str(hung[7])
    assert await aside.call("other", "the other", lambda: "done") == "done"
    assert await asyncio.to_thread(lambda: "done") == "done"
    back.set()


async def test_one_thread_for_a_key_until_it_comes_back() -> None:
    back, begun = threading.Event(), []
    aside = Aside(seconds=0.05)

    def hang() -> None:
        begun.append(1)
        back.wait()

    for _ in range(3):
        with pytest.raises(TimeoutError, match="the volumes of a: no answer"):
            await aside.call("a", "the volumes of a", hang)
    assert len(begun) == 1
    back.set()
    assert await Aside(seconds=30).call("a", "the volumes of a", lambda: "done") == "done"
    patient = Aside(seconds=30)
    back.clear()
    first = asyncio.create_task(patient.call("a", "the first", hang))
    second = asyncio.create_task(patient.call("a", "the second", lambda: "second"))
    await asyncio.sleep(0)
    first.cancel()
    back.set()
    assert await second == "second"
    assert first.cancelled()


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    script = """
import asyncio, contextlib, threading
from pinnace.core.base.aio.aside import Aside
async def main():
    with contextlib.suppress(TimeoutError):
        await Aside(seconds=0.05).call("a", "a", threading.Event().wait)
asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "ended\n"
