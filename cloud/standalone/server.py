"""The composition root of the embedded API server: everything is built here, in order, and handed what it needs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pinnace.cloud.standalone.access import ADMINS, Access
from pinnace.cloud.standalone.admission import KindRules
from pinnace.cloud.standalone.api import Api
from pinnace.cloud.standalone.controllers.binder import Binder
from pinnace.cloud.standalone.controllers.bootstrap import bootstrap
from pinnace.cloud.standalone.controllers.daemonsets import DaemonSets
from pinnace.cloud.standalone.controllers.deployments import Deployments
from pinnace.cloud.standalone.controllers.endpoints import Endpoints
from pinnace.cloud.standalone.controllers.ephemerals import Ephemerals
from pinnace.cloud.standalone.controllers.evictions import Evictions
from pinnace.cloud.standalone.controllers.expiry import Expiry
from pinnace.cloud.standalone.controllers.garbage import Garbage
from pinnace.cloud.standalone.controllers.namespaces import Namespaces
from pinnace.cloud.standalone.controllers.nodes import GRACE_SECONDS, Nodes
from pinnace.cloud.standalone.controllers.replicasets import ReplicaSets
from pinnace.cloud.standalone.controllers.scheduler import Scheduler
from pinnace.cloud.standalone.conversion import Conversions
from pinnace.cloud.standalone.crds import Definitions
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.discovery import Discovery
from pinnace.cloud.standalone.documents import Documents
from pinnace.cloud.standalone.http.app import HttpServer
from pinnace.cloud.standalone.http.client import WebhookClient
from pinnace.cloud.standalone.kubelets import Kubelets
from pinnace.cloud.standalone.metrics import Metrics
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.pki import Authority, write_private
from pinnace.cloud.standalone.reading import Reading
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.reviews import Reviews
from pinnace.cloud.standalone.state import Object, State
from pinnace.cloud.standalone.status import ApiError
from pinnace.cloud.standalone.store import Store
from pinnace.cloud.standalone.streams import Streams
from pinnace.cloud.standalone.subresources import Subresources
from pinnace.cloud.standalone.tokens import Tokens
from pinnace.cloud.standalone.views import Views
from pinnace.cloud.standalone.watches import Watches
from pinnace.cloud.standalone.writes import Writes
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.errors import ConfigError, StoreError

logger = logging.getLogger(__name__)

ADMIN = "kubernetes-admin"
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A kubeconfig to write: for this user in these groups."""

    path: Path
    user: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where the data lives, where to listen (port 0: any free one) and under which further names clients reach the server."""

    data_dir: Path
    bind: str = "127.0.0.1"
    port: int = 6443
    names: Sequence[str] = ()
    clients: Sequence[ClientFile] = ()
    node_grace_seconds: float = GRACE_SECONDS


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: its URL and authority."""

    url: str
    authority: Authority
    port: int


def _reachable(bind: str, names: Sequence[str]) -> str:
    """The name clients should use."""
    if names:
        return names[0]
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        return bind
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{bind}]" if address.version == 6 else bind


def _free_port(bind: str, port: int) -> int:
    """The port to use, chosen now when it is 0: discovery and kubeconfig files name it before the server listens."""
    import socket

    if port:
        return port
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((bind, 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(settings: ServerSettings) -> AsyncIterator[Running]:
    """Run the server for the length of the block. Raises ConfigError, StoreDamaged, StoreError."""
    # The writer thread must get its turn soon after it asks, or every write waits for the loop's whole time slice.
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = Authority(settings.data_dir / "pki")
        store = Store(settings.data_dir)
    except OSError as error:
        raise ConfigError(f"--data-dir {settings.data_dir}: {error.strerror}; choose a folder this user may write to") from error
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        state = State(store)
        registry = Registry()
        rules = KindRules()
        rules.account_of = functools.partial(_account, state)
        webhooks = WebhookClient()
        stack.push_async_callback(webhooks.close)
        views = Views(Conversions(state, webhooks.post, rules.finish))
        objects = Objects(state, registry, views, rules)
        reading = Reading(state, views)
        watches = Watches(state, views)
        writes = Writes(objects)
        deletion = Deletion(objects, reading)
        tokens = Tokens(authority.token_key(), state)
        access = Access(state)
        definitions = Definitions(objects, registry, rules, deletion)
        host = _reachable(settings.bind, settings.names)
        try:
            port = _free_port(settings.bind, settings.port)
        except OSError as error:
            raise ConfigError(f"--bind {settings.bind}: {error.strerror}; choose an address of this machine") from error
        address = f"{host}:{port}"
        kubelets = Kubelets(state, authority)
        api = Api(
            registry=registry, tokens=tokens, access=access, discovery=Discovery(registry, address),
            documents=Documents(registry, tokens, address), reading=reading, watches=watches, writes=writes, deletion=deletion,
            subresources=Subresources(objects, reading, writes, deletion, tokens, streams=Streams(reading, kubelets)),
            reviews=Reviews(access, tokens), metrics=Metrics(state, kubelets),
        )  # fmt: skip
        try:
            await bootstrap(objects, host.strip("[]"), port)
        except ApiError as error:
            raise StoreError(f"{settings.data_dir}: the first objects could not be written: {error.message}") from error
        services = {
            "definitions": definitions.run,
            "namespaces": Namespaces(objects, deletion, authority.ca_pem).run,
            "garbage": Garbage(objects, deletion).run,
            "expiry": Expiry(objects, deletion).run,
            "nodes": Nodes(objects, grace_seconds=settings.node_grace_seconds).run,
            "evictions": Evictions(objects, deletion).run,
            "scheduler": Scheduler(objects, deletion).run,
            "deployments": Deployments(objects, deletion).run,
            "replicasets": ReplicaSets(objects, deletion).run,
            "daemonsets": DaemonSets(objects, deletion).run,
            "endpoints": Endpoints(objects, deletion).run,
            "ephemerals": Ephemerals(objects, deletion).run,
            "binder": Binder(objects, deletion).run,
        }
        tasks = [asyncio.create_task(supervise(name, run, Backoff(0.1, 5.0)), name=f"api-{name}") for name, run in services.items()]
        stack.push_async_callback(_cancelled, tasks)
        server = HttpServer(api.serve)
        stack.push_async_callback(server.close)
        stack.callback(watches.close)
        try:
            await server.open(settings.bind, port, authority.server_context([host.strip("[]"), *settings.names]))
        except OSError as error:
            raise ConfigError(
                f"--bind {settings.bind} --port {port}: {error.strerror}; choose another, or --port 0 for a free one"
            ) from error
        url = f"https://{address}"
        for client in settings.clients:
            write_private(client.path, authority.kubeconfig(url, client.user, client.groups))
        logger.info("api.serving url=%s data=%s objects=%d", url, settings.data_dir, sum(table.count() for table in state.tables()))
        yield Running(url, authority, port)


def _account(state: State, namespace: str, name: str) -> Object | None:
    item = state.table("serviceaccounts").latest(namespace, name)
    return item.decode() if item is not None else None


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def admin_file(path: Path) -> ClientFile:
    return ClientFile(path, ADMIN, (ADMINS,))
