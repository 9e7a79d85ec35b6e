"""The images of a CRI runtime."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from pinnace.core.base.runtime import Credential, DiskUsage, Image, Progress, PullFailed, RuntimeFailed
from pinnace.core.pods.cri import messages, translation
from pinnace.core.pods.cri.failures import failure, pull_failure
from pinnace.core.pods.cri.grpc import NOT_FOUND, CallFailed, Channel, Unreachable
from pinnace.core.pods.cri.protobuf import M, Message
from pinnace.core.pods.images.references import image_id, parse
from pinnace.core.pods.rules.credentials import matching

logger = logging.getLogger(__name__)

PULL_SECONDS: Final = 7200.0
"""The most that one pull may take: a gigabyte on a line of 1.2 Mbit/s. CRI is silent until the end, so a pull that hangs looks like a slow
one; without a limit it would hold up all that wait for their turn."""


class CriImages:
    """Implements `Images` over the image service of CRI v1. `in_use` gives the ids of images that containers use, `pinned` the names of
    those the runtime itself needs."""

    def __init__(
        self,
        channel: Channel,
        *,
        request_seconds: float,
        in_use: Callable[[], Awaitable[frozenset[str]]],
        pinned: Callable[[], Awaitable[frozenset[str]]],
        wants_bare_ids: Callable[[], bool],
        pull_seconds: float = PULL_SECONDS,
    ) -> None:
        self._channel = channel
        self._request_seconds = request_seconds
        self._in_use = in_use
        self._pinned = pinned
        self._wants_bare_ids = wants_bare_ids
        self._pull_seconds = pull_seconds
        self._pulls: dict[tuple[str, tuple[Credential, ...]], asyncio.Task[Image]] = {}

    async def _call(self, method: str, request: Message, answer: type[M]) -> M:
        return await self._channel.call(f"/runtime.v1.ImageService/{method}", request, answer, timeout=self._request_seconds)

    def spec(self, reference: str) -> messages.ImageSpec:
        """An image as this runtime names it."""
        is_bare = self._wants_bare_ids() and bool(image_id(reference))
        return messages.ImageSpec(image=reference.removeprefix("sha256:") if is_bare else reference)

    async def images(self) -> Sequence[Image]:
        try:
            said = await self._call("ListImages", messages.Empty(), messages.ListImagesResponse)
        except (CallFailed, Unreachable) as error:
            raise failure(error) from error
        pinned = await self._pinned()
        return [translation.image(each, is_pinned=not pinned.isdisjoint(each.repo_tags)) for each in said.images]

    async def image(self, reference: str) -> Image | None:
        if not image_id(reference):
            parse(reference)
        try:
            said = await self._call("ImageStatus", messages.ImageRequest(image=self.spec(reference)), messages.ImageStatusResponse)
        except CallFailed as error:
            if error.code == NOT_FOUND:
                return None
            raise PullFailed(f"{reference} cannot be looked at: {error}", reason="ImageInspectError") from error
        except Unreachable as error:
            raise failure(error) from error
        if said.image is None or not said.image.id:
            return None
        return translation.image(said.image, is_pinned=not (await self._pinned()).isdisjoint(said.image.repo_tags))

    async def pull(self, reference: str, credentials: Sequence[Credential] = (), *, progress: Progress | None = None) -> Image:
        """CRI tells no progress: `progress` is called once, at the end."""
        name = parse(reference)
        fitting = matching(credentials, name.registry, name.repository)
        key = (reference, tuple(fitting))  # who has no credential, or a wrong one, gets no image by another's, and spoils none
        task = self._pulls.get(key)
        if task is None:
            task = self._pulls[key] = asyncio.create_task(self._pull(reference, fitting), name=f"pull of {reference}")
            task.add_done_callback(lambda done: self._pulled(key, done))
        image = await asyncio.shield(task)
        if progress is not None:
            progress(image.size, image.size)
        return image

    def _pulled(self, key: tuple[str, tuple[Credential, ...]], task: asyncio.Task[Image]) -> None:
        self._pulls.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited was told; perhaps nobody waits any more

    async def _pull(self, reference: str, credentials: Sequence[Credential]) -> Image:
        failed: PullFailed | None = None
        for credential in (*credentials, None):
            request = messages.PullImageRequest(image=self.spec(reference), auth=None if credential is None else _auth(credential))
            try:
                said = await self._channel.call(
                    "/runtime.v1.ImageService/PullImage", request, messages.PullImageResponse, timeout=self._pull_seconds
                )
            except (CallFailed, Unreachable) as error:
                failed = failed or pull_failure(reference, error)  # what the first credential was told is what the person needs
                if failed.is_unreachable:
                    break
                continue
            image = await self.image(reference) or (await self.image(said.image_ref) if said.image_ref else None)
            if image is None:
                raise PullFailed(f"{reference} was pulled but the runtime does not show it; try again", reason="ImageInspectError")
            return image
        assert failed is not None
        raise failed

    async def remove(self, image_id: str) -> None:
        if image_id in await self._in_use():
            raise RuntimeFailed(f"image {image_id} is in use by a container")
        try:
            await self._call("RemoveImage", messages.ImageRequest(image=self.spec(image_id)), messages.Empty)
        except CallFailed as error:
            if error.code != NOT_FOUND:
                raise failure(error) from error
        except Unreachable as error:
            raise failure(error) from error

    async def disk(self) -> DiskUsage:
        try:
            said = await self._call("ImageFsInfo", messages.Empty(), messages.ImageFsInfoResponse)
        except (CallFailed, Unreachable) as error:
            raise failure(error) from error
        if not said.image_filesystems or said.image_filesystems[0].fs_id is None:
            raise RuntimeFailed("the container runtime does not say where its images are; disk use of images is unknown")
        first = said.image_filesystems[0]
        assert first.fs_id is not None
        path = Path(first.fs_id.mountpoint)
        try:
            whole = await asyncio.to_thread(os.statvfs, path)
        except OSError as error:
            raise RuntimeFailed(f"{path}, where the container runtime keeps images, cannot be looked at: {error}") from error
        return DiskUsage(
            path=path,
            used_by_images=first.used_bytes.value if first.used_bytes else 0,
            capacity=whole.f_blocks * whole.f_frsize,
            available=whole.f_bavail * whole.f_frsize,
            inodes=whole.f_files,
            inodes_free=whole.f_favail,
        )

    async def close(self) -> None:
        """Stop waiting for pulls; the runtime may finish them."""
        tasks = list(self._pulls.values())
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _auth(credential: Credential) -> messages.AuthConfig:
    """Without the server: it has been compared here, and containerd refuses one that is no URL."""
    return messages.AuthConfig(username=credential.username, password=credential.password, identity_token=credential.identity_token)
