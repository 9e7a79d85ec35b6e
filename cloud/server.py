"""The composition root of cloudcore: everything is built here, in order, and handed what it needs.

The API server first, since everything durable lives there; then what the hub proves itself with; the definitions, with the webhook that
converts devices; the caches and the controllers on them; and only when those know what is there, the doors for nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import ipaddress
import logging
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pinnace.cloud.admission import server as admission
from pinnace.cloud.controllers.accounts import AccountController
from pinnace.cloud.controllers.configs import ConfigController
from pinnace.cloud.controllers.devices import DeviceController
from pinnace.cloud.controllers.events import EventController
from pinnace.cloud.controllers.mirror import StatusMirror
from pinnace.cloud.controllers.nodes import NodeController
from pinnace.cloud.controllers.podreports import PodReportController
from pinnace.cloud.controllers.pods import PodController, pod_trim
from pinnace.cloud.controllers.profiles import ProfileController
from pinnace.cloud.controllers.reports import ReportController
from pinnace.cloud.controllers.router import Router
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.controllers.volumes import VolumeController
from pinnace.cloud.hub import pki
from pinnace.cloud.hub.acceptor import Acceptor
from pinnace.cloud.hub.bootstrap import Bootstrap
from pinnace.cloud.hub.hub import Hub
from pinnace.cloud.hub.outbox import Outbox
from pinnace.cloud.hub.vault import Vault
from pinnace.cloud.kube.access import Access, load_access
from pinnace.cloud.kube.api import HttpKubeApi
from pinnace.cloud.kube.definitions import Webhook, apply_definitions, find_folder, load_definitions, with_webhook
from pinnace.cloud.kube.resources import (
    CLUSTER_OBJECT_SYNCS,
    CONFIG_MAPS,
    DEVICE_MODELS,
    DEVICE_STATUSES,
    DEVICES,
    NAMESPACES,
    NODES,
    OBJECT_SYNCS,
    PODS,
    SECRETS,
    VOLUME_CLAIMS,
    VOLUMES,
)
from pinnace.cloud.ports import Object, Resource
from pinnace.cloud.settings import CloudCoreSettings, ConversionSettings
from pinnace.cloud.stream.record import TunnelRecord
from pinnace.cloud.stream.reviews import client_authorities
from pinnace.cloud.stream.server import StreamServer
from pinnace.cloud.stream.settings import CloudStreamSettings
from pinnace.cloud.stream.tunnels import Tunnels
from pinnace.cloud.watch import ObjectCache
from pinnace.cloud.watch.cache import drop_managed_fields
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.supervise import supervise
from pinnace.core.base.errors import ConfigError, LinkError, PinnaceError, RemoteError
from pinnace.core.base.wire.session import Limits

logger = logging.getLogger(__name__)
T = TypeVar("T")

IN_CLUSTER_SERVICE: Final = ("kubeedge", "cloudcore", 443)
SERVICE_PORT: Final = 10009
"""Where the conversion webhook listens behind a Service."""
_RETRY = (0.2, 5.0)
"""Seconds between attempts to reach the API server at the start: the first and the longest."""


@dataclass(frozen=True, slots=True)
class Running:
    """A cloudcore that serves. Ports are those in use, 0 for a listener that is switched off."""

    websocket_port: int
    https_port: int
    conversion_port: int
    tunnel_port: int
    stream_port: int
    token: str = field(repr=False)
    """The join token of this moment; a secret."""


@contextlib.asynccontextmanager
async def serving(settings: CloudCoreSettings) -> AsyncIterator[Running]:
    """Run cloudcore for the length of the block; waits for the API server as long as it takes. Raises ConfigError, RemoteError."""
    async with contextlib.AsyncExitStack() as stack:
        access = await load_access(master=settings.kube_api_config.master, kubeconfig=settings.kube_api_config.file)
        api = await stack.enter_async_context(HttpKubeApi(access))
        await patiently(access, lambda: api.get(NAMESPACES, "default"))

        hub_settings = settings.modules.cloud_hub
        vault = Vault(api, hub_settings)
        await patiently(access, vault.open)

        conversion_port, webhook = 0, None
        if settings.modules.conversion.enable:
            conversion_port, webhook = await _conversion(stack, settings.modules.conversion, access, vault)
        devices = settings.modules.device_controller
        definitions = [with_webhook(each, webhook) for each in load_definitions(find_folder(devices.crd_dir))]
        await patiently(access, lambda: apply_definitions(api, definitions, replace=devices.replace_definitions))

        caches: list[ObjectCache] = []

        def cache(resource: Resource, trim: Callable[[Object], None] = drop_managed_fields) -> ObjectCache:
            made = ObjectCache(api, resource, trim=trim)
            caches.append(made)
            return made

        nodes = cache(NODES)
        pods = cache(PODS, pod_trim(nodes))
        config_maps, secrets = cache(CONFIG_MAPS), cache(SECRETS)
        claims, volumes = cache(VOLUME_CLAIMS), cache(VOLUMES)
        device_cache, models, statuses = cache(DEVICES), cache(DEVICE_MODELS), cache(DEVICE_STATUSES)
        object_syncs, cluster_syncs = cache(OBJECT_SYNCS), cache(CLUSTER_OBJECT_SYNCS)

        outbox = None
        if settings.data_dir is not None:
            outbox = Outbox(settings.data_dir / "outbox.db")
            await outbox.open()
            stack.push_async_callback(outbox.close)
        hub = Hub(
            limits=Limits(keepalive_timeout=hub_settings.keepalive_interval),
            node_limit=hub_settings.node_limit,
            write_timeout=hub_settings.write_timeout,
            outbox=outbox,
        )

        sync = SyncController(api, hub, object_syncs=object_syncs, cluster_syncs=cluster_syncs, nodes=nodes)
        node_controller = NodeController(api, sync, nodes=nodes, address=_address(hub_settings.advertise_address, access))
        device_controller = DeviceController(hub, sync, devices=device_cache, models=models, nodes=nodes)
        config_controller = ConfigController(api, sync, pods=pods, caches=(config_maps, secrets, claims))
        volume_controller = VolumeController(api, sync, config_controller, claims=claims, volumes=volumes)
        pod_controller = PodController(api, sync, pods=pods, nodes=nodes)  # after what pods use: that is sent before them
        stack.push_async_callback(pod_controller.workers.close)
        reports = ReportController(api, hub, device_controller, devices=device_cache, statuses=statuses)
        mirror = StatusMirror(api, devices=device_cache, statuses=statuses)
        profiles = ProfileController(api, device_controller, devices=device_cache, models=models, config_maps=config_maps)
        stack.push_async_callback(profiles.workers.close)
        stack.push_async_callback(reports.workers.close)
        stack.push_async_callback(mirror.workers.close)
        hub.handle_with(
            Router(
                nodes=node_controller, events=EventController(api), devices=device_controller, reports=reports, configs=config_controller,
                volumes=volume_controller, pods=PodReportController(api, hub, pod_controller, pods=pods, nodes=nodes),
                accounts=AccountController(api, pod_controller), sync=sync, api_ca=access.ca,
            )
        )  # fmt: skip
        hub.on_stored(sync.stored)
        hub.on_connection(sync.connection)
        hub.on_connection(node_controller.connection)

        services: dict[str, Callable[[], Awaitable[None]]] = {f"watch-{each.resource.plural}": each.run for each in caches}
        services |= {"watch-pods": functools.partial(_after, nodes, pods), "sync": sync.run, "token": vault.run}
        tasks = [asyncio.create_task(supervise(name, run, Backoff(0.2, 10.0)), name=name) for name, run in services.items()]
        stack.push_async_callback(_cancelled, tasks)
        await asyncio.gather(*(each.synced() for each in caches))

        websocket_port = https_port = 0
        if hub_settings.websocket.enable:
            acceptor = Acceptor(hub, vault, hub_settings)
            await _listening(acceptor.start, "modules.cloudHub.websocket", hub_settings.websocket.address, hub_settings.websocket.port)
            stack.push_async_callback(acceptor.close)
            websocket_port = acceptor.port
        if hub_settings.https.enable:
            bootstrap = Bootstrap(vault, api, hub_settings)
            await _listening(bootstrap.start, "modules.cloudHub.https", hub_settings.https.address, hub_settings.https.port)
            stack.push_async_callback(bootstrap.close)
            https_port = bootstrap.port
        tunnel_port = stream_port = 0
        if settings.modules.cloud_stream.enable:
            address = _address(hub_settings.advertise_address, access)
            tunnel_port, stream_port = await _streams(
                stack, settings.modules.cloud_stream, access, api=api, vault=vault, nodes=nodes, pods=pods, address=address
            )
        logger.info(
            "cloudcore.serving api=%s nodes=%d devices=%d websocket=%d https=%d conversion=%d tunnel=%d streams=%d",
            access.url, len(nodes), len(device_cache), websocket_port, https_port, conversion_port, tunnel_port, stream_port,
        )  # fmt: skip
        yield Running(websocket_port, https_port, conversion_port, tunnel_port, stream_port, vault.token)


async def patiently(access: Access, step: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step of the start until the API server can be reached. What is wrong is said once, and again when it is something else."""
    backoff = Backoff(*_RETRY)
    said = ""
    while True:
        try:
            result = await step()
        except PinnaceError as error:
            if not _may_pass(error):
                raise
            if str(error) != said:
                said = str(error)
                logger.warning("kube.not-ready url=%s: waiting for it; %s", access.url, error)
            await asyncio.sleep(backoff.next())
        else:
            if said:
                logger.info("kube.ready url=%s", access.url)
            return result


def _may_pass(error: PinnaceError) -> bool:
    return isinstance(error, LinkError) or (isinstance(error, RemoteError) and (error.code >= 500 or error.code == 429))


async def _listening(start: Callable[[], Awaitable[None]], section: str, address: str, port: int) -> None:
    try:
        await start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"{section}: cannot listen on {address} port {port}: {reason}; choose another address or port (0: a free one)"
        ) from error


async def _conversion(stack: contextlib.AsyncExitStack, settings: ConversionSettings, access: Access, vault: Vault) -> tuple[int, Webhook]:
    """Start the conversion webhook's server; its port, and what the definitions say about it."""
    service = settings.service_parts()
    if service is None and not settings.url and "KUBERNETES_SERVICE_HOST" in os.environ:
        service = IN_CLUSTER_SERVICE
    own = _own_address(access)
    host = settings.address or ("0.0.0.0" if service is not None else own)  # noqa: S104 - the API server comes from elsewhere
    names = {own, "localhost"} | ({urlsplit(settings.url).hostname or own} if settings.url else set())
    if service is not None:
        names |= {f"{service[1]}.{service[0]}.svc", f"{service[1]}.{service[0]}.svc.cluster.local"}
    pair = vault.authority.issue_server(sorted(names), datetime.datetime.now(datetime.UTC))
    port, wanted = 0, settings.port or (SERVICE_PORT if service is not None else 0)

    async def start() -> None:
        nonlocal port
        port = await stack.enter_async_context(admission.serving(_tls(pair), host, wanted))

    await _listening(start, "modules.conversion", host, wanted)
    url = "" if service is not None else settings.url or f"https://{_in_url(own)}:{port}"
    return port, Webhook(ca=pki.pem(vault.authority.pair.certificate).decode(), path=admission.PATH, url=url, service=service)


async def _streams(
    stack: contextlib.AsyncExitStack, settings: CloudStreamSettings, access: Access, *, api: HttpKubeApi, vault: Vault,
    nodes: ObjectCache, pods: ObjectCache, address: str,
) -> tuple[int, int]:  # fmt: skip
    """Start both listeners of the tunnel; their ports."""
    further = ""
    with contextlib.suppress(FileNotFoundError):
        further = settings.tls_stream_ca_file.read_text(encoding="ascii")
    tunnels: Tunnels
    record = TunnelRecord(api, nodes, address=address, is_here=lambda node: node in tunnels)
    tunnels = Tunnels(vault, settings, connected=record.connected)
    server = StreamServer(
        api, vault, settings, tunnels=tunnels, pods=pods, nodes=nodes, clients=client_authorities(access.ca, further)
    )  # fmt: skip
    stack.push_async_callback(record.workers.close)
    await _listening(server.start, "modules.cloudStream (streamPort)", settings.address, settings.stream_port)
    stack.push_async_callback(server.close)
    await patiently(access, lambda: record.open(server.port))
    await _listening(tunnels.start, "modules.cloudStream (tunnelPort)", settings.address, settings.tunnel_port)
    stack.push_async_callback(tunnels.close)
    return tunnels.port, server.port


def _tls(pair: pki.Pair) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.TemporaryDirectory(prefix="pinnace-") as folder:  # mode 0700; ssl reads pairs from files only
        certificate, key = Path(folder, "crt"), Path(folder, "key")
        certificate.write_bytes(pki.pem(pair.certificate))
        key.write_bytes(pki.key_pem(pair.key))
        context.load_cert_chain(certificate, key)
    return context


def _own_address(access: Access) -> str:
    """The address of this machine on its way to the API server, by which the API server reaches it in turn."""
    parts = urlsplit(access.url)
    try:
        family, kind, proto, _, target = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.connect(target)  # sends nothing: it only asks which address would be used
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _in_url(address: str) -> str:
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).version == 6:
            return f"[{address}]"
    return address


def _address(advertised: tuple[str, ...], access: Access) -> str:
    """What nodes' annotation says of the cloudcore they are connected to."""
    return advertised[0] if advertised else _own_address(access)


async def _after(first: ObjectCache, then: ObjectCache) -> None:
    """Follow a kind once the first list of another is in, by which it is trimmed."""
    await first.synced()
    await then.run()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
