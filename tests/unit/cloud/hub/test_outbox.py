"""User messages on disk: kept over restarts, in order, bounded; a damaged file is set aside."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from pinnace.cloud.hub.outbox import Outbox
from pinnace.core.base.contract.envelopes import new
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import StoreError
from pinnace.ext.records import Envelope

NODE = NodeName("edge-1")


def message(text: str) -> Envelope:
    return new("router_eventbus", "user", "publish", "topic", text)


async def opened(path: Path, bound: int = 10_000) -> Outbox:
    outbox = Outbox(path, bound=bound)
    await outbox.open()
    return outbox


async def texts(outbox: Outbox, node: str = NODE, **options: int) -> list[str]:
    return [envelope.body.decode().strip('"') for _, envelope in await outbox.pending(NodeName(node), **options)]


async def test_keeps_messages_in_order_over_a_restart(tmp_path: Path) -> None:
    outbox = await opened(tmp_path / "new" / "outbox.db")
    sent = [message(str(number)) for number in range(5)]
    await asyncio.gather(*(outbox.put(NODE, each) for each in sent))
    await outbox.put(NodeName("edge-2"), message("other"))
    await outbox.close()
    again = await opened(tmp_path / "new" / "outbox.db")
    rows = await again.pending(NODE)
    assert [envelope for _, envelope in rows] == sent
    assert await texts(again, "edge-2") == ["other"]
    await again.forget([rows[0][0], rows[1][0]])
    assert await texts(again) == ["2", "3", "4"]
    assert await texts(again, limit=1) == ["2"]
    assert await texts(again, after=rows[3][0]) == ["4"]
    await again.close()


async def test_at_the_bound_the_oldest_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = await opened(tmp_path / "outbox.db", bound=3)
    await outbox.put(NodeName("edge-2"), message("untouched"))
    for number in range(5):
        await outbox.put(NODE, message(str(number)))
    assert await texts(outbox) == ["2", "3", "4"]
    assert await texts(outbox, "edge-2") == ["untouched"]
    assert "hub.outbox.full node=edge-1" in caplog.text
    await outbox.close()


async def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"no database at all" * 1000)
    outbox = await opened(path)
    await outbox.put(NODE, message("works"))
    assert await texts(outbox) == ["works"]
    assert [each for each in tmp_path.iterdir() if ".damaged-" in each.name]
    assert caplog.text.count("hub.outbox.damaged") == 1
    await outbox.close()


async def test_an_unreadable_row_is_removed_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.db"
    outbox = await opened(path)
    await outbox.put(NODE, message("0"))
    await outbox.put(NODE, message("1"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE user_message SET envelope = x'00' WHERE seq = 1")
    database.close()
    assert await texts(outbox) == ["1"]
    assert "hub.outbox.unreadable node=edge-1 seq=1" in caplog.text
    await outbox.close()


async def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outbox = Outbox(tmp_path / "file" / "outbox.db")
    with pytest.raises((StoreError, OSError)):
        await outbox.open()


async def test_a_closed_outbox_says_so(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    with pytest.raises(StoreError, match="not open"):
        await outbox.put(NODE, message("x"))
