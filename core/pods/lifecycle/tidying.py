"""What is left of pods that nobody wants any more: in the runtime, in volumes and cgroups, in the folder of logs."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import POD_GRACE, POD_NAME_LABEL, POD_NAMESPACE_LABEL, POD_UID_LABEL
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.roster import Roster

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 60.0


class Tidying:
    """Looks once when asked and about once a minute; only when the pods that are wanted are known."""

    def __init__(self, means: Means, roster: Roster, clock: Clock) -> None:
        self._means = means
        self._roster = roster
        self._clock = clock

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(INTERVAL_SECONDS)
            try:
                await self.find_orphans(self._known())
                await self._leftovers()
            except PinnaceError as error:
                logger.warning("pods.tidying.failed reason=%s; tried again in a minute", error)

    async def find_orphans(self, wanted: Collection[str]) -> None:
        """End and remove what the runtime has of pods whose uids are not among the wanted. Raises RuntimeFailed."""
        orphans: dict[str, Pod] = {}
        for sandbox in await self._means.runtime.sandboxes():
            if sandbox.uid not in wanted:
                orphans[sandbox.uid] = _pod_of(sandbox.namespace, sandbox.name, sandbox.uid)
        for instance in await self._means.runtime.containers():
            uid = instance.labels.get(POD_UID_LABEL, "")
            if uid and uid not in wanted:
                names = (instance.labels.get(POD_NAMESPACE_LABEL, ""), instance.labels.get(POD_NAME_LABEL, ""))
                known = orphans.get(uid) or _pod_of(*names, uid)
                orphans[uid] = _with_grace(known, instance.annotations.get(POD_GRACE, ""))
        for orphan in orphans.values():
            self._roster.clear_away(orphan)

    def _known(self) -> set[str]:
        return {each.pod.uid for each in self._roster.workers}

    async def _leftovers(self) -> None:
        for uid in set(self._means.cgroups.leftovers()) - self._known():
            self._means.cgroups.remove(uid)
        for uid in set(await self._means.materials.leftovers()) - self._known():
            logger.info("pods.leftovers uid=%s: removing what is left of its volumes", uid)
            await self._means.materials.unmount(uid)
        kept = {log_folder(each.pod) for each in self._roster.workers}
        await asyncio.to_thread(remove_folders, self._means.settings.pod_logs_dir, kept)


def log_folder(pod: Pod) -> str:
    """The name of a pod's folder below podLogsDir."""
    return f"{pod.namespace}_{pod.name}_{pod.uid}"


def remove_folders(parent: Path, kept: Collection[str]) -> None:
    """Remove the log folders of pods that are no more. For a thread."""
    try:
        folders = [each for each in parent.iterdir() if each.name not in kept and each.name.count("_") == 2 and each.is_dir()]
    except FileNotFoundError:
        return
    for each in folders:
        shutil.rmtree(each, ignore_errors=True)


def _pod_of(namespace: str, name: str, uid: str) -> Pod:
    return Pod({"metadata": {"namespace": namespace, "name": name, "uid": uid}, "spec": {}})


def _with_grace(pod: Pod, grace: str) -> Pod:
    if not grace.isdecimal():
        return pod
    spec: Object = {"terminationGracePeriodSeconds": int(grace)}
    return Pod({"metadata": pod.metadata, "spec": spec})
