"""Images for containers: pull policies, back-off, progress as events, the local image while the registry cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from pinnace.core.base.aio.clock import Clock
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import Credential, Image, Images, PullFailed
from pinnace.core.pods.images.references import parse
from pinnace.core.pods.ports import Events, Materials
from pinnace.core.pods.rules.backoff import FOREVER, Delay, Trouble, due_at, is_waiting, tried
from pinnace.core.pods.rules.images import PullPolicy, pull_policy

logger = logging.getLogger(__name__)

ERROR_SHOWN_SECONDS: Final = 2.0
"""How long a failure is shown as itself (ErrImagePull) before it becomes ImagePullBackOff."""
PROGRESS_SECONDS: Final = 30.0
"""Between two events about one pull's progress."""
PATIENCE_ONLINE_SECONDS: Final = 30.0
PATIENCE_OFFLINE_SECONDS: Final = 2.0
"""How long a registry may stay silent before a local image is taken: while the cloud can be reached, and while it cannot."""
SILENT_SECONDS: Final = 30.0
"""How long a registry that could not be reached is not asked again by who has a local image."""


class NotYet(PinnaceError):
    """The image is not here yet; `trouble` says why and until when."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


class PullQueue:
    """What the pulls of all pods share: whose turn it is (one at a time with `serialize`), and which registries are silent."""

    def __init__(self, images: Images, clock: Clock, *, serialize: bool, local_when_offline: bool, is_online: Callable[[], bool]) -> None:
        self.images = images
        self.clock = clock
        self._local_when_offline = local_when_offline
        self._is_online = is_online
        self._lock = asyncio.Lock() if serialize else None
        self._silent_until: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def turn(self, *, has_local: bool) -> AsyncIterator[None]:
        """What a local image may stand in for waits for nobody: the one before may be waiting for a registry that is away."""
        lock = None if has_local and self._local_when_offline else self._lock
        async with lock or contextlib.nullcontext():
            yield

    def is_silent(self, image: str) -> bool:
        return self._local_when_offline and self._silent_until.get(parse(image).registry, 0.0) > self.clock.now()

    def stands_in(self, image: str, error: PullFailed) -> bool:
        """Whether a local image may take the place of one that could not be pulled."""
        if not (self._local_when_offline and error.is_unreachable):
            return False
        self._silent_until[parse(image).registry] = self.clock.now() + SILENT_SECONDS
        return True

    async def pull(self, image: str, credentials: Sequence[Credential], tell: Callable[[int, int], None], *, has_local: bool) -> Image:
        """Raises PullFailed; after a time of silence too, if there is a local image that may be taken."""
        has_spoken = False

        def progress(had: int, of: int) -> None:
            nonlocal has_spoken
            has_spoken = True
            tell(had, of)

        pulling = asyncio.ensure_future(self.images.pull(image, credentials, progress=progress))
        if not (has_local and self._local_when_offline):
            return await pulling
        patience = PATIENCE_ONLINE_SECONDS if self._is_online() else PATIENCE_OFFLINE_SECONDS
        waiting = asyncio.ensure_future(self.clock.sleep(patience))
        try:
            waits: list[asyncio.Future[object]] = [pulling, waiting]  # type: ignore[list-item]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not pulling.done() and not has_spoken:
                raise PullFailed(f"the registry gave no answer within {patience:g} s", reason="RegistryUnavailable", is_unreachable=True)
            return await pulling
        finally:
            waiting.cancel()
            pulling.cancel()


class PodImages:
    """The images of one pod's containers. `wake` is called when a pull ended, well or not."""

    def __init__(self, queue: PullQueue, materials: Materials, events: Events, wake: Callable[[], None]) -> None:
        self._queue = queue
        self._materials = materials
        self._events = events
        self._wake = wake
        self._pulling: dict[str, asyncio.Task[None]] = {}
        self._fresh: dict[str, Image] = {}
        self._delays: dict[str, Delay] = {}
        self._failures: dict[str, tuple[float, NotYet]] = {}

    async def obtain(self, pod: Pod, container: Container) -> Image:
        """The image for one start of a container. Raises NotYet, also while it is being pulled."""
        fresh = self._fresh.pop(container.name, None)
        if fresh is not None:
            return fresh
        if container.name in self._pulling:
            raise NotYet(Trouble("", "", FOREVER))
        if (shown := self._failure(container)) is not None:
            raise NotYet(shown)
        policy = pull_policy(container)
        local = await self._look(pod, container)
        if local is not None and (policy is not PullPolicy.ALWAYS or local.is_pinned):
            self._tell(pod, container, "Normal", "Pulled", f'Container image "{container.image}" already present on machine')
            return local
        if policy is PullPolicy.NEVER:
            message = f'Container image "{container.image}" is not present with pull policy of Never'
            raise self._failed(pod, container, "ErrImageNeverPull", message)
        if local is not None and self._queue.is_silent(container.image):
            self._take_local(pod, container, "its registry did not answer a moment ago")
            return local
        self._hold_back(pod, container)
        credentials = await self._materials.pull_credentials(pod)
        work = self._pull(pod, container, local, credentials)
        self._pulling[container.name] = asyncio.create_task(work, name=f"pull of {container.image} for {pod.name}")
        raise NotYet(Trouble("", "", FOREVER))

    def images_came(self) -> None:
        """The next look is at what is here now; registries are held back from as before."""
        self._failures = {
            image: (at, NotYet(Trouble(failure.trouble.reason, failure.trouble.message, 0.0)))
            for image, (at, failure) in self._failures.items()
        }  # fmt: skip

    async def close(self) -> None:
        """Nobody waits for these images any more."""
        tasks = list(self._pulling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fresh.clear()

    async def _look(self, pod: Pod, container: Container) -> Image | None:
        try:
            return await self._queue.images.image(container.image)
        except PullFailed as error:
            message = f'Failed to inspect image "{container.image}": {error}'
            self._tell(pod, container, "Warning", "InspectFailed", message)
            raise self._failed(pod, container, error.reason, message) from error

    def _hold_back(self, pod: Pod, container: Container) -> None:
        """Raises NotYet while the image's back-off lasts."""
        now = self._queue.clock.wall()
        failed_at, failure = self._failures.get(container.image, (0.0, None))
        if failure is None:
            return
        due = due_at(self._delays.get(container.image), failed_at, now)
        if due <= now:
            return
        self._tell(pod, container, "Normal", "BackOff", f'Back-off pulling image "{container.image}"')
        self._tell(pod, container, "Warning", "Failed", "Error: ImagePullBackOff")
        message = f'Back-off pulling image "{container.image}": {failure.trouble.reason}: {failure.trouble.message}'
        raise NotYet(Trouble("ImagePullBackOff", message, due))

    async def _pull(self, pod: Pod, container: Container, local: Image | None, credentials: Sequence[Credential]) -> None:
        image, clock = container.image, self._queue.clock
        asked_at = clock.now()
        try:
            async with self._queue.turn(has_local=local is not None):
                if local is not None and self._queue.is_silent(image):
                    self._take_local(pod, container, "its registry did not answer a moment ago")
                    self._fresh[container.name] = local
                    return
                began = told_at = clock.now()
                self._tell(pod, container, "Normal", "Pulling", f'Pulling image "{image}"')

                def progress(had: int, of: int) -> None:
                    nonlocal told_at
                    if clock.now() - told_at >= PROGRESS_SECONDS:
                        told_at = clock.now()
                        whole = f"{of >> 20} MiB" if of else "an unknown size"
                        self._tell(pod, container, "Normal", "Pulling", f'Pulling image "{image}": {had >> 20} MiB of {whole}')

                found = await self._queue.pull(image, credentials, progress, has_local=local is not None)
                took, waited = clock.now() - began, clock.now() - asked_at
            text = f'Successfully pulled image "{image}" in {took:.3f}s ({waited:.3f}s including waiting). Image size: {found.size} bytes.'
            self._tell(pod, container, "Normal", "Pulled", text)
            self._fresh[container.name] = found
            self._failures.pop(image, None)
            self._delays.pop(image, None)
        except PullFailed as error:
            if local is not None and self._queue.stands_in(image, error):
                self._take_local(pod, container, str(error))
                self._fresh[container.name] = local
            else:
                self._pull_failed(pod, container, error.reason, str(error))
        except Exception as error:  # one image's trouble is not the pod's
            logger.exception("pods.pull.broken pod=%s/%s image=%s", pod.namespace, pod.name, image)
            self._pull_failed(pod, container, "ErrImagePull", str(error))
        finally:
            self._pulling.pop(container.name, None)
            self._wake()

    def _pull_failed(self, pod: Pod, container: Container, reason: str, why: str) -> None:
        message = f'failed to pull image "{container.image}": {why}'
        self._tell(pod, container, "Warning", "Failed", f"F{message[1:]}")
        self._failed(pod, container, reason, message, shown_seconds=ERROR_SHOWN_SECONDS)

    def _failed(self, pod: Pod, container: Container, reason: str, message: str, *, shown_seconds: float = FOREVER) -> NotYet:
        """Remember it. The container shows it for `shown_seconds`, then its back-off."""
        now = self._queue.clock.wall()
        before, _ = self._failures.get(container.image, (now, None))
        delay = self._delays[container.image] = tried(self._delays.get(container.image), before, now)
        failure = NotYet(Trouble(reason, message, now + min(shown_seconds, delay.seconds)))
        self._failures[container.image] = (now, failure)
        self._tell(pod, container, "Warning", "Failed", f"Error: {reason}")
        return failure

    def _failure(self, container: Container) -> Trouble | None:
        """What went wrong last, for as long as it is shown as such."""
        _, failure = self._failures.get(container.image, (0.0, None))
        return failure.trouble if failure is not None and is_waiting(failure.trouble.until, self._queue.clock.wall()) else None

    def _take_local(self, pod: Pod, container: Container, why: str) -> None:
        text = f'Cannot reach the registry of image "{container.image}" ({why}); using the local image'
        self._tell(pod, container, "Warning", "LocalImageUsed", text)
        logger.warning("pods.image.local pod=%s/%s image=%s reason=%s", pod.namespace, pod.name, container.image, why)

    def _tell(self, pod: Pod, container: Container, kind: str, reason: str, message: str) -> None:
        self._events.pod(pod, kind, reason, message, container=container.name, is_init=container.is_init)
