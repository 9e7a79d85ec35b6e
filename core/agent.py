"""The edge's composition root: every service is built here, in order, and handed the ports it needs. Reading it is reading the edge.

store ── sync ──┐
  └─ outbox ── link ── (the cloud)
twins ── bus ── (mappers)
pods ── (containers)        node
streams ── (the cloud, and root on this machine)
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.contract.envelopes import Group
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.observe.health import Health
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.eventbus.service import EventBus
from pinnace.core.hub.service import HubLink
from pinnace.core.meta.inventory import InventoryReport
from pinnace.core.meta.store import Store
from pinnace.core.meta.sync import Sync
from pinnace.core.node.machine import Reader
from pinnace.core.node.objects import last_address
from pinnace.core.node.service import NodeService
from pinnace.core.settings import EdgeCoreSettings
from pinnace.core.stream.service import StreamService
from pinnace.core.stream.shelf import NoPods, StoredShelf
from pinnace.core.twins.service import TwinService
from pinnace.core.usage import Usage

if TYPE_CHECKING:
    from pinnace.core.pods.host import PodNode

logger = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def running(settings: EdgeCoreSettings, *, on_trial: bool = False) -> AsyncIterator[HubLink]:
    """Run the edge for the length of the block; gives the link, which knows whether the cloud is there. `on_trial` as in Store.

    Raises StoreError when there is no database to start from, and StoreDamaged when the file turns out to be damaged meanwhile: the next
    start sets it aside. Nothing else stops the edge: without a cloud it works from the store.
    """
    node, modules = settings.node, settings.modules
    health = Health()
    database = settings.database
    async with Store(database.data_source, health=health, cache_bytes=database.cache_bytes, on_trial=on_trial) as store:
        reader = Reader(cloud=modules.edge_hub.websocket.endpoint.host, pods_root=modules.edged.root_directory)
        link = HubLink(modules.edge_hub, node, departures=store.outbox, health=health, machine=reader.machine().machine_id)
        sync = Sync(store, node=node)
        bus = EventBus(
            modules.event_bus,
            node,
            outbox=store.outbox,
            health=health,
            objects=store,
            committed=store.committed,
            folder=database.data_source.with_name("mosquitto"),
        )
        twins = TwinService(node, store=store, objects=store, outbox=store.outbox, uplink=link, bus=bus)
        pods = _pods(modules.edged, node, store, link, reader) if modules.edged.enable else None
        health.set("cgroups", pods.cgroups.problem if pods is not None else "")
        status = NodeService(modules.edged, node, uplink=link, objects=store, health=health, reader=reader, host=pods)

        book = pods if pods is not None else NoPods()
        streams = StreamService(
            modules.edge_stream,
            modules.edged,
            node,
            hub_host=modules.edge_hub.websocket.endpoint.host,
            runtime=pods.containers if pods is not None else None,
            book=book,
            shelf=StoredShelf(node, store, twins.entries),
            health=health,
            certificate=link.certificate,
            address=lambda: reader.load(modules.edged.node_ip).address,
            usage=Usage(store=store, twins=twins, link=link, book=book).read,
        )

        link.deliver(Group.RESOURCE, sync.handle)
        link.deliver(Group.TWIN, twins.handle)
        link.deliver(Group.USER, bus.handle)
        for kind in ("device", "devicemodel"):
            sync.on_change(kind, twins.changed)
        if pods is not None:
            for kind in pods.kinds:
                sync.on_change(kind, pods.changed)
        link.on_connected(InventoryReport(store, link).connected)
        link.on_connected(bus.cloud_connected)
        link.on_connected(streams.tunnel.cloud_connected)
        link.on_lost(bus.cloud_lost)
        bus.deliver_to(twins.message)
        bus.on_connected(twins.bus_connected)

        await twins.start()
        services: dict[str, Callable[[], Awaitable[None]]] = {"twins": twins.run, "node": status.run, "streams": streams.run}
        if pods is not None:
            services["pods"] = pods.run
        if modules.event_bus.enable:
            services["bus"] = bus.run
        if modules.edge_hub.enable:
            services["link"] = link.run
        gc.collect()
        gc.freeze()  # what lives from here to the end is not worth looking at again
        tasks = [asyncio.create_task(supervise(name, run, Backoff(0.2, 10.0)), name=name) for name, run in services.items()]
        try:
            logger.info("agent.started node=%s services=%s", node, ",".join(services))
            async with _interrupted_by(store.failed()):
                yield link
        finally:
            await _cancelled(reversed(tasks))


def _pods(settings: EdgedSettings, node: NodeName, store: Store, link: HubLink, reader: Reader) -> PodNode:
    """Imported here: a node of devices only does without."""
    from pinnace.core.pods.host import PodNode

    machine = reader.machine()
    shelf = StoredShelf(node, store, tuple)

    def addresses() -> list[str]:
        """Without a network the last one known: what pods and people were told stays so."""
        address = reader.address(settings.node_ip) or last_address(shelf.node() or {})
        return [address] if address else []

    return PodNode(
        settings,
        node,
        capacity={"cpu": str(machine.cpus), "memory": str(machine.memory), "ephemeral-storage": str(machine.disk)},
        addresses=addresses,
        objects=store,
        uplink=link,
        outbox=store.outbox,
    )


@contextlib.asynccontextmanager
async def _interrupted_by(step: Awaitable[None]) -> AsyncIterator[None]:
    """Interrupt the block when `step` fails, and raise its exception instead."""
    owner = asyncio.current_task()
    assert owner is not None
    watching = asyncio.ensure_future(step)

    def interrupt(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            owner.cancel()

    watching.add_done_callback(interrupt)
    try:
        yield
    except asyncio.CancelledError:
        error = watching.exception() if watching.done() and not watching.cancelled() else None
        if error is None:
            raise
        owner.uncancel()
        raise error from None
    finally:
        watching.cancel()


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
