"""What the built-in runtime asks of its image store beyond `base.runtime.Images`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pinnace.core.base.runtime import Images


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The `config` of an image (OCI image specification, config.md)."""

    env: tuple[tuple[str, str], ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()


class ImageStore(Images, Protocol):
    """The built-in runtime's images: unpacked layers on this machine's disk. The runtime starts, runs and closes it."""

    async def start(self) -> None:
        """Raises RuntimeFailed."""
        ...

    async def run(self) -> None:
        """For ever: import archives, throw away what is left over."""
        ...

    async def close(self) -> None: ...

    def config(self, image_id: str) -> ImageConfig:
        """Raises RuntimeFailed when there is no such image."""
        ...

    def layers(self, image_id: str) -> tuple[Path, ...]:
        """Unpacked layers, the lowest first: the lower directories of an overlay file system."""
        ...

    def hold(self, image_id: str, container_id: str) -> None:
        """The image may not be removed while a container uses it. Survives nothing: the runtime holds anew after a restart, also an image
        whose record was damaged meanwhile: its containers run on."""
        ...

    def release(self, container_id: str) -> None: ...
