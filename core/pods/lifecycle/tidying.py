"""What is left of pods that nobody wants any more: what runs, volumes and cgroups. Their logs are the collector's (upkeep)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import POD_GRACE, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.roster import Name, Roster
from pinnace.core.pods.ports import VolumesNotReady

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 60.0


class Tidying:
    """Looks once a minute, first when `is_known`: the pods that are wanted, by the cloud and by files, are all known."""

    def __init__(self, means: Means, roster: Roster, is_known: asyncio.Event) -> None:
        self._means = means
        self._roster = roster
        self._is_known = is_known

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._is_known.wait()
            for part in (self.find_orphans, self._volumes, self._cgroups):
                try:
                    await part()
                except PinnaceError as error:
                    logger.warning("pods.tidying.failed reason=%s; tried again in a minute", error)
            await self._means.clock.sleep(INTERVAL_SECONDS)

    async def find_orphans(self, *, names: Mapping[Name, str] | None = None) -> None:
        """End and remove what the runtime has of pods that have no worker. With `names` only what stands in the way of wanted pods: what
        has their name and another uid. Raises RuntimeFailed."""
        orphans: dict[str, Pod] = {}
        for sandbox in await self._means.runtime.sandboxes():
            if sandbox.uid not in orphans:
                orphans[sandbox.uid] = _pod_of(sandbox.namespace, sandbox.name, sandbox.uid)
        for instance in await self._means.runtime.containers():
            uid = instance.labels.get(POD_UID_LABEL, "")
            if uid:
                name = (instance.labels.get(POD_NAMESPACE_LABEL, ""), instance.labels.get(POD_NAME_LABEL, ""))
                known = orphans.get(uid) or _pod_of(*name, uid)
                orphans[uid] = _with_grace(known, instance.annotations.get(POD_GRACE, ""))
        for orphan in orphans.values():
            if names is None or names.get((orphan.namespace, orphan.name), orphan.uid) != orphan.uid:
                self._roster.clear_away(orphan)

    def _known(self) -> set[str]:
        return {each.pod.uid for each in self._roster.workers}

    async def _volumes(self) -> None:
        """What one pod has left and is busy keeps nobody else's."""
        for uid in await self._means.materials.leftovers():
            if uid in self._known():
                continue
            logger.info("pods.leftovers uid=%s: removing what is left of its volumes", uid)
            try:
                await self._means.materials.unmount(uid)
            except VolumesNotReady as error:
                logger.warning("pods.leftovers.stay uid=%s reason=%s; tried again in a minute", uid, error)

    async def _cgroups(self) -> None:
        for uid in self._means.cgroups.leftovers():
            if uid not in self._known():
                await self._means.cgroups.remove(uid)


def _pod_of(namespace: str, name: str, uid: str) -> Pod:
    return Pod({"metadata": {"namespace": namespace, "name": name, "uid": uid}, "spec": {}})


def _with_grace(pod: Pod, grace: str) -> Pod:
    if not grace.isdecimal():
        return pod
    spec: Object = {"terminationGracePeriodSeconds": int(grace)}
    return Pod({"metadata": pod.metadata, "spec": spec})
