"""Tells the cloud once what a new or restored database holds, so that it sends what is missing and deletes what is over.

The cloud takes what a node once confirmed for stored. A lost database file, a restored snapshot or an exchanged card would otherwise
leave the node without its objects until each of them changes (docs/protocol.md 2.5). Only a cloud of ours understands the message.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import orjson

from pinnace.core.base.contract.envelopes import Group, Operation, Source, body_text, new
from pinnace.core.base.contract.keys import LOCAL_KINDS
from pinnace.core.base.errors import LinkError, StoreError
from pinnace.core.base.ports import Inventory, StoredObject, Uplink

logger = logging.getLogger(__name__)

INVENTORY: Final = "inventory"
"""The message's resource."""


class InventoryReport:
    """`connected` is for `Uplink.on_connected`."""

    def __init__(self, store: Inventory, uplink: Uplink) -> None:
        self._store = store
        self._uplink = uplink

    async def connected(self) -> None:
        """Tell it if it is due; what goes wrong is tried again at the next connection."""
        if not self._store.inventory_due:
            return
        if self._uplink.peer_wire == 0:
            logger.info("store.inventory-untold: this cloud cannot be told that the database is new; delete the node's ObjectSyncs there")
            return
        entries = [entry for each in self._store.inventory() if (entry := _entry(each)) is not None]
        message = new(Source.METAMANAGER, Group.META, Operation.UPDATE, INVENTORY, entries)
        try:
            answer = await self._uplink.request(message)
            if answer.operation == Operation.ERROR:
                logger.warning("store.inventory-refused objects=%d: %s", len(entries), body_text(answer)[:300].decode(errors="replace"))
                return
            await self._store.inventory_told()
        except (LinkError, StoreError) as error:
            logger.warning("store.inventory-untold objects=%d: %s; tried again with the next connection", len(entries), error)
        else:
            logger.info("store.inventory-told objects=%d", len(entries))


def _entry(stored: StoredObject) -> dict[str, Any] | None:
    """What the cloud needs to know of an object; None for what is no object of the cloud's."""
    if stored.key.kind in LOCAL_KINDS:
        return None
    try:
        content = orjson.loads(stored.body)
        uid = content["metadata"]["uid"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    key = stored.key
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name, "uid": uid, "version": stored.version}
