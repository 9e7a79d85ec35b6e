"""One pod's worker: observes the runtime, asks the rules, does what they say, until the pod is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from pinnace.core.base import containerlogs
from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.errors import PinnaceError, StoreFull
from pinnace.core.base.pod import Object, Pod
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.base.settings.edged import seconds
from pinnace.core.pods.lifecycle.acting import Acts
from pinnace.core.pods.lifecycle.looking import Watch
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.pulls import PodImages
from pinnace.core.pods.lifecycle.stopping import stop_pod
from pinnace.core.pods.rules.backoff import FOREVER
from pinnace.core.pods.rules.observed import Observed
from pinnace.core.pods.rules.phase import TERMINAL
from pinnace.core.pods.rules.reconcile import Finish, MakeSandbox, Plan, StartContainer, reconcile
from pinnace.core.pods.rules.status import DEADLINE, Ending, pod_status, refused_status, remembered
from pinnace.core.pods.rules.statuses import Words, told_ends, unix
from pinnace.core.pods.rules.termination import is_news, is_sooner

logger = logging.getLogger(__name__)

ROUNDS: Final = 30
"""Passes without a pause; more mean that observing and acting disagree."""
TROUBLE_SECONDS: Final = (1.0, 30.0)
"""The first and the longest wait after a round that failed."""
_DEADLINE: Final = Ending(DEADLINE, "Pod was active on the node longer than the specified deadline")


class Keeper(Protocol):
    """Who keeps the workers, as a worker sees it."""

    def admit(self, pod: Pod) -> Ending | None:
        """Whether the node takes a pod that never ran here."""
        ...

    def told(self, worker: PodWorker, *, is_new: bool = True) -> None:
        """The pod's status changed, or the last of it was cleaned away. Not `is_new`: it is as it was before the agent began, and the cloud
        may have heard otherwise or nothing since."""
        ...

    async def settle(self, worker: PodWorker) -> None:
        """Make the terminal status durable, before what it was made from is removed. Raises StoreError."""
        ...

    def wake_at(self, worker: PodWorker, at: float) -> None:
        """Have the worker touched at that moment of the monotonic clock; infinite: not at all."""
        ...

    def left(self, worker: PodWorker) -> None:
        """Nothing of the pod is here any more."""
        ...


class Hurried(Exception):
    """The pod is to end, or to end sooner, while something slow was going on."""


class PodWorker:
    """Has a task only while there is something to do. `status` is the newest one, {} before the first."""

    def __init__(self, means: Means, keeper: Keeper, pod: Pod, status: Object) -> None:
        self._means = means
        self._keeper = keeper
        self._view: Pod | None = None
        self.pod = pod
        self.status = status or dict(pod.status)
        self._images = PodImages(means.pulls, means.materials, means.events, self._pull_ended)
        self._acts = Acts(means, self._images)
        self._acts.restarts, self._acts.ends = _restarts(self.status), told_ends(self.status)
        self._watch = Watch(means)
        self._backoff = Backoff(*TROUBLE_SECONDS)
        self._said = ""
        self._has_told = False
        self._paused_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_touched = False
        self._is_urgent = False
        self._hurry = asyncio.Event()
        self.is_admitted = bool(self.status.get("startTime"))
        self.is_removed = False
        self.is_gone = False
        self._ending: Ending | None = None
        self._is_refused = False
        self._is_over = False
        self._is_resting = False
        self._grace: float | None = None
        self._ends_at = FOREVER
        self.ended = asyncio.Event()
        """All of it has ended and its last status is durable."""
        self.rested = asyncio.Event()
        """What ran has ended after `rest`, or there is nothing to wait for any more."""
        self.is_cleaned = False

    def __repr__(self) -> str:
        return f"PodWorker({self.pod.namespace}/{self.pod.name})"

    def touch(self, *, is_urgent: bool = False) -> None:
        """There may be something to do. What failed a moment ago waits for its time all the same, unless it `is_urgent`."""
        if self.is_gone:
            return
        if not is_urgent and self._means.clock.now() < self._paused_until:
            return
        self._is_touched = True
        self._is_urgent |= is_urgent
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name=f"pod {self.pod.namespace}/{self.pod.name}")

    def update(self, pod: Pod) -> None:
        """The pod as it is to be now; the same uid. A deletion is never taken back: what says otherwise is older."""
        if self.pod.is_deleting and not pod.is_deleting:
            return
        old, self.pod, self._view = self.pod, pod, None
        if is_sooner(old, pod):
            self._shorten(float(pod.grace_seconds))
        if is_news(old, pod):
            self._acts.hurry()
            self.touch(is_urgent=True)

    def remove(self) -> None:
        """The pod is not to be here any more: end it and clean up."""
        if not self.is_removed:
            self.is_removed = True
            self._shorten(float(self.pod.grace_seconds))
            self.touch(is_urgent=True)

    def end(self, ending: Ending, grace: float) -> None:
        """End the pod for good: phase Failed, for that reason. `grace` in seconds."""
        if not self.ended.is_set():
            self._ending = self._ending or ending  # the first reason stands, the shortest grace counts
            self._shorten(grace)
            self.touch(is_urgent=True)

    def rest(self, grace: float) -> None:
        """End what runs and start nothing before `wake`; the pod itself does not end. `grace` in seconds."""
        if not self.ended.is_set():
            self._is_resting = True
            self._shorten(grace)
            self.touch(is_urgent=True)

    def wake(self) -> None:
        """Go on after a rest."""
        if self._is_resting:
            self._is_resting = False
            self.rested.set()
            self.rested = asyncio.Event()
            if not self.is_ending:
                self._grace, self._ends_at = None, FOREVER
            self.touch(is_urgent=True)

    def look(self, *, is_material: bool = False, has_images: bool = False) -> None:
        """What it lacked may have come. `is_material`: what its volumes are made of has changed; `has_images`: images were imported."""
        if is_material:
            self._acts.remount()
        if self._acts.is_waiting_for_more or self._paused_until:
            self._acts.hurry(has_images=has_images)
        self.touch(is_urgent=True)

    @property
    def is_ending(self) -> bool:
        has_run = self._is_over or self.status.get("phase") in TERMINAL
        return self.is_removed or self.pod.is_deleting or self._ending is not None or has_run

    @property
    def view(self) -> Pod:
        """The pod with its newest status."""
        if self._view is None or self._view.status is not self.status:
            self._view = Pod({**self.pod.body, "status": self.status})
        return self._view

    async def close(self) -> None:
        """Let go; the containers go on."""
        self.is_gone = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._watch.close()
        await self._images.close()

    def _shorten(self, grace: float) -> None:
        self._grace = grace if self._grace is None else min(grace, self._grace)
        self._hurry.set()

    def _pull_ended(self) -> None:
        self._acts.pull_ended()
        self.touch(is_urgent=True)

    async def _work(self) -> None:
        """Rounds until there is nothing to do before the next alarm."""
        try:
            while self._is_touched and not self.is_gone:
                self._is_touched = self._is_urgent = False
                self._hurry.clear()
                pause = await self._guarded_round()
                if not self.is_gone:
                    self._keeper.wake_at(self, self._means.clock.now() + pause)
        finally:
            self._task = None

    async def _guarded_round(self) -> float:
        """One round; how long the pod may be left alone. What goes wrong is this pod's alone, and is tried again with back-off."""
        self._paused_until = 0.0
        try:
            pause = await self._round()
        except Hurried:
            self._is_touched = True
            return 0.0
        except Exception as error:  # noqa: BLE001 - the border of one pod's work
            pause = self._backoff.next()
            self._paused_until = self._means.clock.now() + pause - 0.001
            self._is_touched = self._is_urgent
            self._say(error, pause)
            return pause
        self._backoff.reset()
        self._said = ""
        return pause

    def _say(self, error: Exception, pause: float) -> None:
        if str(error) == self._said:
            return
        if not isinstance(error, PinnaceError):
            logger.error("pods.sync.broken pod=%s/%s", self.pod.namespace, self.pod.name, exc_info=error)
        else:
            logger.warning("pods.sync.failed pod=%s/%s retry_in=%.1fs reason=%s", self.pod.namespace, self.pod.name, pause, error)
        self._said = str(error)

    async def _round(self) -> float:
        if not self.is_ending and not self.is_admitted:
            self._admit()
        seen = await self._look()
        if self.is_ending:
            return await self._end_round(seen)
        if self._is_resting:
            return await self._rest_round(seen)
        for _ in range(ROUNDS):
            left = self._deadline_left()
            if left <= 0:
                self._means.events.pod(self.pod, "Normal", _DEADLINE.reason, _DEADLINE.message)
                self.end(_DEADLINE, float(self.pod.grace_seconds))
                return 0.0
            plan = reconcile(self.pod, seen, self._acts.memory, self._means.clock.wall())
            is_over = any(isinstance(each, Finish) for each in plan.actions)
            self._tell(seen, plan, is_terminal=is_over and not seen.instances)
            if is_over:
                self._is_over = True
                self._is_touched = True
                return 0.0
            if not plan.actions:
                self._acts.tell_waiting(self.pod, plan)
                await self._unless_hurried(self._acts.keep_mounted(self.pod, must=False))
                return self._pause(plan, left)
            await self._unless_hurried(self._acts.carry_out(self.pod, plan, seen))
            seen = await self._look()
        logger.warning("pods.sync.restless pod=%s/%s: %d rounds without a rest", self.pod.namespace, self.pod.name, ROUNDS)
        return TROUBLE_SECONDS[0]

    def _admit(self) -> None:
        refusal = self._keeper.admit(self.pod)
        if refusal is not None:
            self._means.events.pod(self.pod, "Warning", refusal.reason, refusal.message)
            self._ending, self._is_refused = refusal, True
        self.is_admitted = refusal is None

    async def _look(self) -> Observed:
        return await self._watch.look(self.view, started_here=self._acts.started_here, is_probed=not (self.is_ending or self._is_resting))

    def _pause(self, plan: Plan, left: float) -> float:
        pause = min(seconds(self._means.settings.tailored_kubelet_config.sync_frequency), left)
        return pause if plan.wake_at is None else min(pause, max(plan.wake_at - self._means.clock.wall(), 0.0))

    def _deadline_left(self) -> float:
        """Seconds until activeDeadlineSeconds are over."""
        allowed = self.pod.spec.get("activeDeadlineSeconds")
        if allowed is None:
            return FOREVER
        return unix(self.status.get("startTime") or "", self._means.clock.wall()) + float(allowed) - self._means.clock.wall()

    def _tell(self, seen: Observed, plan: Plan, *, is_terminal: bool = False) -> None:
        """Reckon the status, and tell it if it changed, and the first time."""
        old = remembered(self.status, self.pod.status)
        now = self._means.clock.wall()
        if old.get("phase") in TERMINAL and not seen.instances:
            status = old  # settled, and nothing is left that could tell more
        elif self._is_refused and self._ending is not None:
            status = refused_status(self.pod, self._ending, now=now)
        else:
            words = Words(self._means.runtime.name, self._watch.messages, plan.waiting, old)
            status = pod_status(
                self.pod, seen, words, host_ips=self._means.host_ips(), goes_on=_goes_on(plan), now=now, is_terminal=is_terminal,
                ending=self._ending if is_terminal else None,
            )  # fmt: skip
        is_new = status != self.status
        if is_new:
            if status.get("phase") != self.status.get("phase"):
                logger.info(
                    "pods.phase pod=%s/%s phase=%s reason=%s", self.pod.namespace, self.pod.name, status["phase"], status.get("reason", "")
                )
            self.status = status
            self._acts.restarts, self._acts.ends = _restarts(status), told_ends(status)
        if is_new or not self._has_told:
            self._has_told = True
            self._keeper.told(self, is_new=is_new)

    async def _end_round(self, seen: Observed) -> float:
        """One round of a pod that ends or has ended; each step is made once."""
        await self._images.close()
        if not self.ended.is_set():
            self._tell(seen, Plan())
            seen = await self._stopped(seen)
            self._tell(seen, Plan(), is_terminal=True)
            if not self.is_removed:
                await self._settle()
            self.ended.set()
            self.rested.set()
        await self._clean()
        if self.is_removed:
            await self._clear(seen)
        return FOREVER

    async def _rest_round(self, seen: Observed) -> float:
        await self._images.close()
        self._tell(await self._stopped(seen), Plan())
        self.rested.set()
        return FOREVER

    async def _stopped(self, seen: Observed) -> Observed:
        """The pod with nothing that runs. Raises Hurried, RuntimeFailed."""
        try:
            await self._unless_hurried(self._kill(seen))
        except RuntimeFailed as error:
            self._means.events.pod(self.pod, "Warning", "FailedKillPod", f"error killing pod: {error}")
            if self.is_ending:
                await self._means.materials.abandon(self.pod.uid)
            raise
        seen = await self._look()
        if seen.running:
            raise RuntimeFailed(f"still running: {', '.join(each.name for each in seen.running)}")
        return seen

    async def _settle(self) -> None:
        """The last status first, then what it was made from goes; but on a full disk only what goes makes room for the status."""
        try:
            await self._keeper.settle(self)
        except StoreFull as error:
            logger.warning(
                "pods.status.no-room pod=%s/%s reason=%s; its volumes are removed first", self.pod.namespace, self.pod.name, error
            )
            await self._clean()
            await self._keeper.settle(self)

    async def _clean(self) -> None:
        if not self.is_cleaned:
            await self._means.materials.unmount(self.pod.uid)
            await self._means.cgroups.remove(self.pod.uid)
            self.is_cleaned = True
            self._keeper.told(self)

    async def _kill(self, seen: Observed) -> None:
        now = self._means.clock.now()
        grace = self._grace if self._grace is not None else float(self.pod.grace_seconds)
        self._ends_at = min(self._ends_at, now + grace)
        if not seen.has_ended:
            await stop_pod(self._means, self.pod, seen, self._ends_at)

    async def _clear(self, seen: Observed) -> None:
        """The pod is forgotten: so are its containers, sandboxes and logs."""
        for instance in seen.all_instances:
            await self._means.runtime.remove_container(instance.id)
            await asyncio.to_thread(containerlogs.remove, instance.log_path)
        for sandbox in seen.sandboxes:
            await self._means.runtime.remove_sandbox(sandbox.id)
        self._watch.close()
        self.is_gone = True
        logger.info("pods.gone pod=%s/%s uid=%s", self.pod.namespace, self.pod.name, self.pod.uid)
        self._keeper.left(self)

    async def _unless_hurried(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, but let go of it when the pod is to end sooner. Raises Hurried."""
        doing = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            waits: list[asyncio.Future[Any]] = [doing, hurry]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise Hurried
            await doing
        finally:
            hurry.cancel()
            if not doing.done():
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)


def _goes_on(plan: Plan) -> bool:
    return bool(plan.waiting) or any(isinstance(each, StartContainer | MakeSandbox) for each in plan.actions)


def _restarts(status: Object) -> dict[str, int]:
    """Counts of containers that ran once, by name."""
    return {
        each["name"]: int(each.get("restartCount") or 0)
        for part in ("initContainerStatuses", "containerStatuses")
        for each in status.get(part) or ()
        if isinstance(each, dict) and each.get("name") and each.get("containerID")
    }
