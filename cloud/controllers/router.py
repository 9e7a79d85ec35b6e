"""What nodes send, to the controller it is for (docs/protocol.md, 3 and 4). The hub has taken out keepalives and acknowledgements."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pinnace.cloud.controllers.accounts import AccountController
from pinnace.cloud.controllers.answers import error_answer, failed_answer, status_failure
from pinnace.cloud.controllers.configs import ConfigController
from pinnace.cloud.controllers.devices import DeviceController
from pinnace.cloud.controllers.events import EventController
from pinnace.cloud.controllers.nodes import NodeController
from pinnace.cloud.controllers.podreports import PodReportController
from pinnace.cloud.controllers.reports import ReportController
from pinnace.cloud.controllers.sync import SyncController
from pinnace.cloud.controllers.volumes import VolumeController
from pinnace.core.base.contract.envelopes import Group, Operation, Source, reply
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError, RemoteError
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)

Handler = Callable[[NodeName, ResourceKey, Envelope], Awaitable[list[Envelope]]]

_ASKING = frozenset({Operation.INSERT, Operation.UPDATE, Operation.DELETE, Operation.PATCH, Operation.QUERY})
_WRAPPED = frozenset({"node", "nodepatch", "lease", "pod", "podpatch"})
"""Kinds whose answers are an ObjectResp, errors included; a query of a node is answered bare."""


class Router:
    """The hub's `UplinkHandler`. Whoever asks gets an answer, also to what nobody here serves: an edge waits a minute for silence."""

    def __init__(
        self,
        *,
        nodes: NodeController,
        events: EventController,
        devices: DeviceController,
        reports: ReportController,
        configs: ConfigController,
        volumes: VolumeController,
        pods: PodReportController,
        accounts: AccountController,
        sync: SyncController,
        api_ca: str,
    ) -> None:
        """`api_ca` is the PEM text of the API server's authority, "" when there is none of its own."""
        self._api_ca = api_ca
        self._devices = devices
        self._sync = sync
        self._handlers: dict[str, Handler] = {
            "node": nodes.node,
            "nodepatch": nodes.patch,
            "nodestatus": nodes.status,
            "lease": nodes.lease,
            "event": events.handle,
            "configmap": configs.query,
            "secret": configs.query,
            "persistentvolumeclaim": configs.query,
            "persistentvolume": volumes.query,
            "volumeattachment": volumes.query,
            "serviceaccounttoken": accounts.token,
            "pod": pods.pod,
            "podpatch": pods.patch,
            "podstatus": pods.old_status,
            "twin/edge_updated": reports.handle,
            "state/update": reports.handle,
            "membership/detail": self._detail,
            "k8s/ca.crt": self._ca,
            "inventory": self._inventory,
        }

    async def __call__(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        handler = self._handlers.get("podstatus" if key.kind.endswith("/podstatus") else key.kind)
        if message.group == Group.USER or handler is None:
            return self._unserved(node, key, message)
        try:
            return await handler(node, key, message)
        except ValueError as error:  # the body is no JSON, or not what it should be
            logger.warning("uplink.malformed node=%s message=%r error=%s", node, message, error)
            return [_failure(key, message, str(error), "BadRequest", 400)]
        except PinnaceError as error:
            logger.warning("uplink.failed node=%s message=%r error=%s", node, message, error)
            reason, code = (error.reason, error.code) if isinstance(error, RemoteError) else ("InternalError", 500)
            return [_failure(key, message, str(error), reason, code)]

    def _unserved(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        logger.debug("uplink.unserved node=%s message=%r", node, message)
        if message.group == Group.USER or message.operation not in _ASKING or not key.name:
            return []
        return [_failure(key, message, f"this cloudcore does not serve {message.operation} of {key.kind}", "MethodNotAllowed", 405)]

    async def _detail(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        return await self._devices.detail(node, message)

    async def _inventory(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        return await self._sync.inventory(node, message)

    async def _ca(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        return [reply(message, self._api_ca, source=Source.CLOUDHUB, group=Group.RESOURCE)]


def _failure(key: ResourceKey, message: Envelope, text: str, reason: str, code: int) -> Envelope:
    """The kind of failure the asking edge understands for what it asked."""
    is_wrapped = key.kind in _WRAPPED and message.operation not in {Operation.QUERY, Operation.DELETE}
    return failed_answer(message, status_failure(text, reason, code)) if is_wrapped else error_answer(message, text)
