"""Service-account tokens of pods: had from the cloud, kept in the store under the pod's own key, served old rather than not at all.

A token is asked for again when 80 % of its life or 24 hours are over and the cloud is there (Kubernetes API, TokenRequest;
docs/protocol.md, service-account tokens). A pod never gets another one's. What a token says is in no log and no message.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any, Final, NamedTuple

import orjson

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.answers import object_of
from pinnace.core.base.contract.envelopes import Operation
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import RemoteError, StoreError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import ObjectChange, ObjectStore
from pinnace.core.pods.material.sources import Queries, SourceMissing

logger = logging.getLogger(__name__)

KIND: Final = "serviceaccounttoken"
DEFAULT_SECONDS: Final = 3600
_LIFE_SHARE: Final = 0.8
_LONGEST_SECONDS: Final = 24 * 3600.0
_CLOCK_SLACK_SECONDS: Final = 300.0
_PATIENCE_SECONDS: Final = 5.0
"""How long a pod waits for a fresh token when it has an expired one."""


class Claim(NamedTuple):
    """Whose token, for whom, and for how long. `audience` "" is the API server's own."""

    namespace: str
    account: str
    audience: str
    seconds: int
    pod: str
    uid: str

    @property
    def key(self) -> ResourceKey:
        """Where it is stored: nothing else of the pod, and nothing of another pod, has that key."""
        text = "\0".join((self.account, self.audience, str(self.seconds), self.pod))
        return ResourceKey(KIND, self.namespace, f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.{self.uid}")


def claim_of(pod: Pod, projection: Object) -> Claim:
    """What a serviceAccountToken of a projected volume asks for."""
    return Claim(
        pod.namespace,
        str(pod.spec.get("serviceAccountName") or "default"),
        str(projection.get("audience") or ""),
        int(projection.get("expirationSeconds") or DEFAULT_SECONDS),
        pod.name,
        pod.uid,
    )


class _Kept(NamedTuple):
    """`had_at` is this machine's wall clock, `seconds` the token's life from then."""

    token: str
    had_at: float
    seconds: float

    def is_due(self, wall: float) -> bool:
        """A clock that was set back says nothing about a token's age: then it is due as well."""
        due = self.had_at + min(self.seconds * _LIFE_SHARE, _LONGEST_SECONDS)
        return not self.had_at - _CLOCK_SLACK_SECONDS <= wall < due

    def is_expired(self, wall: float) -> bool:
        return wall >= self.had_at + self.seconds


class Tokens:
    """The tokens of this node's pods."""

    def __init__(self, objects: ObjectStore, queries: Queries, clock: Clock) -> None:
        self._objects = objects
        self._queries = queries
        self._clock = clock
        self._stale: set[ResourceKey] = set()

    async def token(self, claim: Claim) -> str:
        """A fresh one if it can be had, else an old one. Raises SourceMissing when there never was one and none can be had now."""
        kept, wall = self._kept(claim.key), self._clock.wall()
        if kept is not None and not kept.is_due(wall):
            return kept.token
        try:
            query = self._queries.start(
                claim.key, lambda: self._ask(claim), what=f'a token of service account "{claim.namespace}/{claim.account}"'
            )
            if kept is None:
                return str((await asyncio.shield(query))["token"])
            if kept.is_expired(wall):
                await asyncio.wait({query}, timeout=_PATIENCE_SECONDS)
        except SourceMissing as error:
            if kept is None:
                raise SourceMissing(_never_had(claim, error), is_absent=error.is_absent) from error
        newest = self._kept(claim.key) or kept
        assert newest is not None
        self._tell_of_age(claim, newest)
        return newest.token

    async def forget(self, uid: str) -> None:
        """Remove a pod's tokens. Raises StoreError."""
        gone = [each.key for each in self._objects.list(KIND) if _uid(each.key) == uid]
        if gone:
            await self._objects.apply([ObjectChange(Operation.DELETE, key, "", b"{}") for key in gone])
            self._stale.difference_update(gone)

    def uids(self) -> set[str]:
        """The pods that have tokens."""
        return {uid for each in self._objects.list(KIND) if (uid := _uid(each.key))}

    def _kept(self, key: ResourceKey) -> _Kept | None:
        try:
            found = self._objects.get(key)
            content: Any = orjson.loads(found.body) if found is not None else None
            return _Kept(str(content["token"]), float(content["hadAt"]), float(content["seconds"])) if content else None
        except (StoreError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return None

    async def _ask(self, claim: Claim) -> Object:
        """Have a token, store it; what is stored."""
        spec = {
            "audiences": [claim.audience] if claim.audience else None,
            "expirationSeconds": claim.seconds,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": claim.pod, "uid": claim.uid},
        }
        wanted = {"metadata": {"creationTimestamp": None}, "spec": spec, "status": {"token": "", "expirationTimestamp": None}}
        had_at = self._clock.wall()
        answer = await self._queries.request(f"{claim.namespace}/{KIND}/{claim.account}", wanted)
        given = object_of(answer)
        token = (given.get("status") or {}).get("token")
        if not isinstance(token, str) or not token:
            raise RemoteError("the cloud's answer holds no token", reason="InternalError")
        seconds = (given.get("spec") or {}).get("expirationSeconds")
        kept: Object = {"token": token, "hadAt": had_at, "seconds": seconds if isinstance(seconds, int) and seconds > 0 else claim.seconds}
        await self._objects.apply([ObjectChange(Operation.INSERT, claim.key, "", orjson.dumps(kept))])
        self._queries.acknowledge(answer)
        return kept

    def _tell_of_age(self, claim: Claim, kept: _Kept) -> None:
        """Once when an expired token is served, and once when that is over."""
        if not kept.is_expired(self._clock.wall()):
            self._stale.discard(claim.key)
        elif claim.key not in self._stale:
            self._stale.add(claim.key)
            logger.warning(
                "pods.token.stale pod=%s/%s account=%s: the cloud gives no new one now", claim.namespace, claim.pod, claim.account
            )


def _uid(key: ResourceKey) -> str:
    return key.name.partition(".")[2]


def _never_had(claim: Claim, error: SourceMissing) -> str:
    return (
        f"pod {claim.namespace}/{claim.pod} never had a token of its service account: {error}. "
        "A pod that needs none starts without the cloud when it says automountServiceAccountToken: false"
    )
