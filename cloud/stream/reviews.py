"""Who may ask nodes for streams: as a kubelet does, by client certificate or token, and by the API server's own judgement
(Kubernetes API, TokenReview and SubjectAccessReview; kubelet authorization)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pinnace.cloud.ports import KubeApi, Object, Resource
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.keys import NodeName

TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False)
ACCESS_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)
ALLOWED_SECONDS: Final = 300.0
DENIED_SECONDS: Final = 30.0
"""How long a judgement is remembered; as a kubelet does."""
REMEMBERED: Final = 512
_SUBRESOURCES: Final = {"stats": "stats", "metrics": "metrics"}
_ACTING: Final = frozenset({"exec", "attach", "portForward"})
"""These act on a pod: WebSocket asks for them with GET, which must not make them as cheap as reading."""


class Caller(NamedTuple):
    name: str
    groups: tuple[str, ...]


def certified(certificate: Mapping[str, Any] | None) -> Caller | None:
    """Who a verified client certificate is for: the CN in the groups of its Os; None without one."""
    if not certificate:
        return None
    pairs = [pair for relative in certificate.get("subject", ()) for pair in relative]
    name = next((value for key, value in pairs if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName")
    return Caller(name, (*groups, "system:authenticated")) if name else None


class Reviews:
    """Asks the API server and remembers for a while what it said."""

    def __init__(self, api: KubeApi, clock: Clock | None = None) -> None:
        self._api = api
        self._clock = clock or LoopClock()
        self._judgements: OrderedDict[tuple[Any, ...], tuple[float, bool]] = OrderedDict()

    async def bearer(self, token: str) -> Caller | None:
        """Whose token it is; None when it is nobody's. Raises RemoteError, LinkError."""
        body: Object = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": {"token": token}}
        status = (await self._api.create(TOKEN_REVIEWS, body)).get("status") or {}
        user = status.get("user") or {}
        if not status.get("authenticated") or not user.get("username"):
            return None
        return Caller(str(user["username"]), tuple(str(each) for each in user.get("groups") or ()))

    async def allows(self, caller: Caller, node: NodeName, method: str, path: str) -> bool:
        """Whether the caller may do this to the node. Raises RemoteError, LinkError."""
        first = path.split("/")[1]
        subresource = _SUBRESOURCES.get(first, "proxy")
        verb = "create" if method == "POST" or first in _ACTING else "get"
        key = (caller, node, subresource, verb)
        ends, judgement = self._judgements.get(key, (0.0, False))
        if ends > self._clock.now():
            return judgement
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node}
        body: Object = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {"user": caller.name, "groups": list(caller.groups), "resourceAttributes": attributes},
        }
        status = (await self._api.create(ACCESS_REVIEWS, body)).get("status") or {}
        judgement = bool(status.get("allowed"))
        self._judgements[key] = (self._clock.now() + (ALLOWED_SECONDS if judgement else DENIED_SECONDS), judgement)
        self._judgements.move_to_end(key)
        if len(self._judgements) > REMEMBERED:
            self._judgements.popitem(last=False)
        return judgement


def client_authorities(cluster: str, further: str) -> str:
    """PEM of the authorities whose client certificates are asked for: the cluster's, and those of the configuration. "" for none."""
    return "\n".join(each for each in (cluster, further) if "BEGIN CERTIFICATE" in each)
