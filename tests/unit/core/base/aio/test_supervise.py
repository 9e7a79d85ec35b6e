"""A service that fails or ends is started again; cancelling ends it."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise


async def test_restarts_after_failure_and_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    third = asyncio.Event()

    async def service() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError("broken")
        if runs == 3:
            third.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(supervise("svc", service, Backoff(0.001, 0.001)))
    await asyncio.wait_for(third.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "service.failed name=svc" in caplog.text
    assert "service.ended name=svc" in caplog.text


async def test_a_failure_while_stopping_is_no_reason_to_start_again(caplog: pytest.LogCaptureFixture) -> None:
    starts = 0

    async def run() -> None:
        nonlocal starts
        starts += 1
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cannot tidy up")

    task = asyncio.create_task(supervise("untidy", run, Backoff(0.001, 0.001)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert starts == 1
    assert "cannot tidy up" in caplog.text
