"""Carrying out what the rules decided for one pod that is to run, and remembering what went wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pinnace.core.base import containerlogs
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.settings.edged import seconds
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.pulls import NotYet, PodImages
from pinnace.core.pods.lifecycle.starting import HookBroken, StartFailed, after_start, make_sandbox, start_container
from pinnace.core.pods.lifecycle.stopping import pod_ip, pod_ips, stop_container, stop_pod
from pinnace.core.pods.ports import SpecRefused, VolumesNotReady
from pinnace.core.pods.rules.backoff import FIRST_SECONDS, FOREVER, Delay, Trouble, tried
from pinnace.core.pods.rules.observed import Observed
from pinnace.core.pods.rules.reconcile import (
    CRASH_LOOP,
    MakeSandbox,
    Memory,
    Plan,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    StopContainer,
    Why,
    delay_key,
)
from pinnace.core.pods.rules.termination import grace_seconds

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = (2.0, 60.0)
"""The first and the longest wait before a container that cannot be made is tried again."""


class Acts:
    """One pod's. `images` pulls for it."""

    def __init__(self, means: Means, images: PodImages) -> None:
        self._means = means
        self._images = images
        self._delays: dict[str, Delay] = {}
        self._troubles: dict[str, Trouble] = {}
        self._retries: dict[str, Backoff] = {}
        self._owed: set[str] = set()
        self._told_waiting: set[str] = set()
        self._mounted_at: float | None = None
        self._is_stale = False
        self.restarts: dict[str, int] = {}
        """Restart counts that the pod's last status tells of, for containers that the runtime has forgotten."""
        self.ends: dict[str, int] = {}
        """Likewise the exit codes."""
        self.started_here: set[str] = set()
        """Instances that this run of the agent started."""

    @property
    def memory(self) -> Memory:
        return Memory(self._delays, self._troubles, self._owed, self.restarts, self.ends)

    def pull_ended(self) -> None:
        """What waited for an image may be looked at again."""
        self._troubles = {name: each for name, each in self._troubles.items() if each.until != FOREVER}

    def hurry(self, *, has_images: bool = False) -> None:
        """What was missing may have come: try again what could not be made. `has_images`: images without a registry, too."""
        self._retries.clear()
        if has_images:
            self._images.images_came()
        kept = ("",) if has_images else ("", "ErrImagePull", "ImagePullBackOff")
        self._troubles = {name: each for name, each in self._troubles.items() if each.reason in kept}

    def remount(self) -> None:
        """Bring the volumes up to date with the next look."""
        self._is_stale = True

    @property
    def is_waiting_for_more(self) -> bool:
        return bool(self._troubles)

    async def carry_out(self, pod: Pod, plan: Plan, seen: Observed) -> None:
        """One round's actions. Raises StartFailed when the sandbox cannot be made, VolumesNotReady, RuntimeFailed."""
        stops = [each for each in plan.actions if isinstance(each, StopContainer)]
        for outcome in await asyncio.gather(*(self._stop(pod, each, seen) for each in stops), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        for action in plan.actions:
            match action:
                case MakeSandbox():
                    await self._make_sandbox(pod, action, seen)
                case RemoveContainer():
                    await self._means.runtime.remove_container(action.instance.id)
                    await asyncio.to_thread(containerlogs.remove, action.instance.log_path)
                    self.started_here.discard(action.instance.id)
                case RemoveSandbox():
                    await self._means.runtime.remove_sandbox(action.sandbox.id)
                case _:
                    pass
        await self._start_all(pod, [each for each in plan.actions if isinstance(each, StartContainer)], seen)

    def tell_waiting(self, pod: Pod, plan: Plan) -> None:
        """One event for each container that begins to wait for its next start."""
        waiting = {name for name, each in plan.waiting.items() if each.reason == CRASH_LOOP}
        for name in waiting - self._told_waiting:
            container = pod.container(name)
            text = f"Back-off restarting failed container {name} in pod {pod.name}_{pod.namespace}({pod.uid})"
            is_init = container is not None and container.is_init
            self._means.events.pod(pod, "Warning", "BackOff", text, container=name, is_init=is_init)
        self._told_waiting = waiting

    async def keep_mounted(self, pod: Pod, *, must: bool) -> None:
        """Set up what the pod needs, or bring it up to date about once in `syncFrequency`. `must`: something is to be started. Raises
        VolumesNotReady, SpecRefused; a refresh that fails is told only."""
        now = self._means.clock.now()
        is_due = (
            self._mounted_at is None or now - self._mounted_at >= seconds(self._means.settings.tailored_kubelet_config.sync_frequency) * 0.9
        )
        if not (is_due or self._is_stale):
            return
        self._is_stale = False
        try:
            await self._means.cgroups.ensure(pod)
            await self._means.materials.mount(pod)
        except VolumesNotReady as error:
            self._means.events.pod(pod, "Warning", "FailedMount", str(error))
            if self._mounted_at is None and must:
                raise
            logger.warning("pods.volumes.stale pod=%s/%s reason=%s", pod.namespace, pod.name, error)
            return
        except SpecRefused as error:
            self._means.events.pod(pod, "Warning", error.reason, str(error))
            raise
        self._mounted_at = now

    async def _make_sandbox(self, pod: Pod, action: MakeSandbox, seen: Observed) -> None:
        if action.why:
            self._means.events.pod(pod, "Normal", "SandboxChanged", action.why)
        if not seen.has_ended:
            await stop_pod(self._means, pod, seen, self._means.clock.now() + pod.grace_seconds)
        await self.keep_mounted(pod, must=True)
        await make_sandbox(self._means, pod, action.attempt)

    async def _stop(self, pod: Pod, action: StopContainer, seen: Observed) -> None:
        container = action.container
        grace = grace_seconds(pod, container, action.why)
        ip = pod_ip(self._means, pod, seen)
        await stop_container(self._means, pod, container, action.instance, why=action.why, grace=grace, ip=ip)
        if action.owes_start:
            self._owed.add(container.name)

    async def _start_all(self, pod: Pod, starts: list[StartContainer], seen: Observed) -> None:
        """In the order of the spec: while one's image is on its way the later ones wait, while one fails they do not."""
        if not starts or seen.sandbox is None:
            return
        await self.keep_mounted(pod, must=True)
        for action in starts:
            trouble = await self._start(pod, action, seen)
            if trouble is not None:
                self._troubles[action.container.name] = trouble
                if trouble.until == FOREVER:
                    return

    async def _start(self, pod: Pod, action: StartContainer, seen: Observed) -> Trouble | None:
        container, now = action.container, self._means.clock.wall()
        sandbox, ips = seen.sandbox, pod_ips(self._means, pod, seen)
        assert sandbox is not None
        try:
            container_id = await start_container(
                self._means, self._images, pod, container, attempt=action.attempt, sandbox=(sandbox.id, sandbox.attempt), pod_ips=ips
            )
        except NotYet as error:
            return error.trouble
        except StartFailed as error:
            if error.reason == "RunContainerError":
                self._count(action, now)
                return Trouble(error.reason, str(error), now + FIRST_SECONDS)
            return Trouble(error.reason, str(error), now + self._retry(container.name))
        self._count(action, now)
        self.started_here.add(container_id)
        for remembered in (self._troubles, self._retries):
            remembered.pop(container.name, None)
        self._owed.discard(container.name)
        try:
            await after_start(self._means, pod, container, container_id, ips[0] if ips else "")
        except HookBroken as error:
            await self._end_broken(pod, container, error, ips[0] if ips else "")
            return Trouble("PostStartHookError", str(error), self._means.clock.wall() + FIRST_SECONDS)
        return None

    async def _end_broken(self, pod: Pod, container: Container, error: HookBroken, ip: str) -> None:
        instance = await self._means.runtime.container(error.container_id)
        await stop_container(self._means, pod, container, instance, why=Why.HOOK, grace=grace_seconds(pod, container, Why.HOOK), ip=ip)

    def _count(self, action: StartContainer, now: float) -> None:
        """A restart was made: the next failure waits longer."""
        if action.failed_at:
            key = delay_key(action.container)
            self._delays[key] = tried(self._delays.get(key), action.failed_at, now)

    def _retry(self, name: str) -> float:
        return self._retries.setdefault(name, Backoff(*RETRY_SECONDS)).next()
