"""Statuses upward, and the request to forget a pod that has ended (docs/protocol.md, pods)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import orjson

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.contract.answers import object_of
from pinnace.core.base.contract.envelopes import Group, Operation, Source, new
from pinnace.core.base.errors import LinkError, RemoteError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.ports import Uplink
from pinnace.core.pods.rules.phase import TERMINAL
from pinnace.core.pods.rules.status import status_patch

logger = logging.getLogger(__name__)

PARALLEL: Final = 4
"""Requests on their way at once."""
RETRY_SECONDS: Final = 10.0
DELETE_SECONDS: Final = (10.0, 300.0)
"""The first and the longest wait before the cloud is asked again to delete a pod whose deletion did not come."""
_ANSWER_SECONDS: Final = 20.0


class _Report:
    """One pod as the API knows it and as it is. `uid` is the API's: a static pod's mirror has another than the pod."""

    def __init__(self, namespace: str, name: str, uid: str) -> None:
        self.namespace = namespace
        self.name = name
        self.uid = uid
        self.known: Object = {}
        self.version = ""
        self.is_sure = False
        self.is_unknown = False
        """The API said that it has no such pod."""
        self.status: Object = {}
        self.sent: Object = {}
        self.refused: Object = {}
        """The patch that the API called invalid: only another one is worth a try."""
        self.wants_deletion = False
        self.deletion_at = 0.0
        self.deletion_waits = Backoff(*DELETE_SECONDS)

    @property
    def patch(self) -> Object | None:
        if not self.status or self.is_unknown:
            return None
        patch = status_patch(self.uid, self.known, self.status, is_sure=self.is_sure)
        return patch if patch != self.refused else None

    def asks_deletion(self, now: float) -> bool:
        return self.wants_deletion and not self.is_unknown and self.known.get("phase") in TERMINAL and now >= self.deletion_at


class StatusReports:
    """Latest per pod: a status is sent when it differs from what the API has, one request a pod at a time; what fails is sent again after
    `RETRY_SECONDS` and after every reconnect."""

    def __init__(self, uplink: Uplink, clock: Clock) -> None:
        self._uplink = uplink
        self._clock = clock
        self._reports: dict[str, _Report] = {}
        self._due: dict[str, None] = {}
        self._later: set[str] = set()
        self._busy: set[str] = set()
        self._is_due = asyncio.Event()
        uplink.on_connected(self._connected)

    async def run(self) -> None:
        """For ever."""
        self._busy.clear()
        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(self._serve())
            group.create_task(self._retry())

    def known(self, pod: Pod) -> None:
        """What the API has, as the cloud pushed it or the store remembers it; older than what is known changes nothing."""
        report = self._of(pod.namespace, pod.name, pod.uid)
        version = str(pod.metadata.get("resourceVersion") or "")
        if version.isdecimal() and report.version.isdecimal() and int(version) < int(report.version):
            return
        report.known, report.version, report.is_unknown = pod.status, version, False
        if (patch := report.patch) is None:
            return
        if patch == report.sent:  # the API does not take it, or somebody keeps undoing it
            self._later.add(report.uid)
        else:
            self._put(report.uid)

    def put(self, namespace: str, name: str, uid: str, status: Object, *, wants_deletion: bool = False) -> None:
        """The pod is like this now. `wants_deletion`: nothing of it is left, the API may forget it."""
        report = self._of(namespace, name, uid)
        report.status = status
        report.wants_deletion |= wants_deletion
        self._put(uid)

    def forget(self, uid: str) -> None:
        self._reports.pop(uid, None)
        self._later.discard(uid)
        self._due.pop(uid, None)

    def _of(self, namespace: str, name: str, uid: str) -> _Report:
        return self._reports.setdefault(uid, _Report(namespace, name, uid))

    def _put(self, uid: str) -> None:
        self._due[uid] = None
        self._is_due.set()

    async def _connected(self) -> None:
        for uid, report in self._reports.items():
            report.deletion_at = 0.0
            report.deletion_waits.reset()
            if report.patch is not None or report.wants_deletion:
                self._put(uid)
        self._later.clear()

    async def _retry(self) -> None:
        while True:
            await self._clock.sleep(RETRY_SECONDS)
            if self._uplink.connected:
                now = self._clock.now()
                for uid in [*self._later, *(uid for uid, each in self._reports.items() if each.asks_deletion(now))]:
                    self._put(uid)
                self._later.clear()

    async def _serve(self) -> None:
        while True:
            uid = next((each for each in self._due if each not in self._busy), None)
            if uid is None:
                self._is_due.clear()
                await self._is_due.wait()
                continue
            del self._due[uid]
            report = self._reports.get(uid)
            if report is None:
                continue
            self._busy.add(uid)
            try:
                await self._send(report)
            finally:
                self._busy.discard(uid)
                self._is_due.set()

    async def _send(self, report: _Report) -> None:
        if not self._uplink.connected:
            return  # comes again with the connection
        try:
            if (patch := report.patch) is not None:
                await self._send_patch(report, patch)
            if report.asks_deletion(self._clock.now()):
                await self._ask_deletion(report)
        except LinkError as error:
            self._later.add(report.uid)
            logger.info("pods.status.not-sent pod=%s/%s reason=%s", report.namespace, report.name, error)
        except RemoteError as error:
            if _is_no_more(error):
                report.is_unknown = True
                logger.info("pods.status.dropped pod=%s/%s: the cloud has no such pod: %s", report.namespace, report.name, error)
            else:
                if error.reason == "Invalid":
                    report.refused = report.sent
                self._later.add(report.uid)
                logger.warning("pods.status.refused pod=%s/%s reason=%s", report.namespace, report.name, error)
        except Exception:  # one pod's report is not the others'
            self._later.add(report.uid)
            logger.exception("pods.status.broken pod=%s/%s", report.namespace, report.name)

    async def _send_patch(self, report: _Report, patch: Object) -> None:
        """Raises LinkError, RemoteError."""
        sent, report.sent = report.status, patch
        text = orjson.dumps(patch).decode()
        message = new(Source.EDGED, Group.META, Operation.PATCH, f"{report.namespace}/podpatch/{report.name}", text)
        answer = object_of(await self._uplink.request(message, timeout_seconds=_ANSWER_SECONDS))
        metadata = answer.get("metadata") or {}
        if (uid := metadata.get("uid")) and uid != report.uid:
            raise RemoteError("another pod of that name", reason="NotFound", code=404)
        report.known = answer.get("status") or sent
        report.version = str(metadata.get("resourceVersion") or report.version)
        report.is_sure = True
        if report.status is not sent:
            self._put(report.uid)

    async def _ask_deletion(self, report: _Report) -> None:
        """The answer is no proof; the cloud's own `delete` is. Raises LinkError, RemoteError."""
        report.deletion_at = self._clock.now() + report.deletion_waits.next()
        content = {"gracePeriodSeconds": 0, "preconditions": {"uid": report.uid}}
        message = new(Source.EDGED, Group.META, Operation.DELETE, f"{report.namespace}/pod/{report.name}", content)
        object_of(await self._uplink.request(message, timeout_seconds=_ANSWER_SECONDS))
        logger.info("pods.deletion.asked pod=%s/%s", report.namespace, report.name)


def _is_no_more(error: RemoteError) -> bool:
    """Whether the API says that there is no such pod, or that its name is another one's now: then the error is about the uid. Any other
    Conflict is somebody else's write at the same time."""
    return error.reason == "NotFound" or (error.reason in ("Invalid", "Conflict") and "uid" in str(error).lower())
