"""An image store that unpacks images made on the spot: real layers on the disk, and no registry."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pinnace.core.base.imagefiles import BuiltImage
from pinnace.core.base.runtime import Credential, DiskUsage, Image, Progress, PullFailed, RuntimeFailed
from pinnace.core.pods.images.records import ImageConfig


class UnpackedImages:
    """`pinnace.core.pods.images.records.ImageStore` over `folder`."""

    def __init__(self, folder: Path, images: Mapping[str, BuiltImage]) -> None:
        self._folder = folder
        self._layers: dict[str, tuple[Path, ...]] = {}
        self._configs: dict[str, ImageConfig] = {}
        self._images: dict[str, Image] = {}
        self.holders: dict[str, str] = {}
        for name, image in images.items():
            self._add(name, image)

    async def start(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...

    def _add(self, name: str, image: BuiltImage) -> None:
        config = json.loads(image.config.read()).get("config", {})
        self._images[image.config.digest] = Image(image.config.digest, (name,), (), sum(each.size for each in image.blobs))
        self._configs[image.config.digest] = ImageConfig(
            env=tuple((entry.partition("=")[0], entry.partition("=")[2]) for entry in config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            cmd=tuple(config.get("Cmd") or ()),
            working_dir=config.get("WorkingDir", ""),
            user=config.get("User", ""),
            stop_signal=config.get("StopSignal", ""),
            volumes=tuple(config.get("Volumes") or ()),
        )
        layers = []
        for each in image.layers:
            target = self._folder / each.diff_id.removeprefix("sha256:")
            layers.append(target)
            if not target.exists():
                target.mkdir(parents=True)
                with tarfile.open(fileobj=io.BytesIO(gzip.decompress(each.blob.read()))) as tar:
                    tar.extractall(target, filter="fully_trusted")
        self._layers[image.config.digest] = tuple(layers)

    async def images(self) -> Sequence[Image]:
        return list(self._images.values())

    async def image(self, reference: str) -> Image | None:
        return next((each for each in self._images.values() if reference in (each.id, *each.tags)), None)

    async def pull(self, reference: str, credentials: Sequence[Credential] = (), *, progress: Progress | None = None) -> Image:
        raise PullFailed(f"{reference}: there is no registry here", is_unreachable=True)

    async def remove(self, image_id: str) -> None:
        if image_id in self.holders.values():
            raise RuntimeFailed("a container uses it")
        self._images.pop(image_id, None)

    async def disk(self) -> DiskUsage:
        return DiskUsage(self._folder, 0, 1, 1, 1, 1)

    def config(self, image_id: str) -> ImageConfig:
        try:
            return self._configs[image_id]
        except KeyError:
            raise RuntimeFailed(f"no image {image_id}") from None

    def layers(self, image_id: str) -> tuple[Path, ...]:
        return self._layers[image_id]

    def hold(self, image_id: str, container_id: str) -> None:
        self.holders[container_id] = image_id

    def release(self, container_id: str) -> None:
        self.holders.pop(container_id, None)
