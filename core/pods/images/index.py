"""Which images there are: one small durable file each, all of them in memory. Blocking; the store calls it from a thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from pinnace.core.base.files import sync_folder, write_whole
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.records import ImageConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """An unpacked layer: its short name, the bytes and the number of its files."""

    name: str
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image. Of two that claim a name the higher `sequence` has it: a power cut came between two files."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[StoredLayer, ...]
    blobs: tuple[str, ...]
    config: ImageConfig
    is_pinned: bool = False
    sequence: int = 0

    @property
    def size(self) -> int:
        return sum(each.size for each in self.layers)

    def dumps(self) -> bytes:
        return orjson.dumps(self)


def image_from(document: Mapping[str, Any]) -> StoredImage:
    """The inverse of `dumps`. Raises ValueError, KeyError or TypeError for anything else."""
    config = document["config"]
    return StoredImage(
        id=str(document["id"]),
        tags=tuple(map(str, document["tags"])),
        digests=tuple(map(str, document["digests"])),
        layers=tuple(StoredLayer(str(each["name"]), int(each["size"]), int(each["files"])) for each in document["layers"]),
        blobs=tuple(map(str, document["blobs"])),
        config=ImageConfig(
            env=tuple((str(name), str(value)) for name, value in config["env"]),
            entrypoint=tuple(map(str, config["entrypoint"])),
            cmd=tuple(map(str, config["cmd"])),
            working_dir=str(config["working_dir"]),
            user=str(config["user"]),
            stop_signal=str(config["stop_signal"]),
            volumes=tuple(map(str, config["volumes"])),
        ),
        is_pinned=bool(document["is_pinned"]),
        sequence=int(document["sequence"]),
    )


class Index:
    """`images` by id and `names` (tags and name@digest) to ids; both are replaced whole, so that readers need no lock."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.images: dict[str, StoredImage] = {}
        self.names: dict[str, str] = {}

    def load(self) -> None:
        """Read what is there. A damaged record, or one whose layers are gone, is set aside: that image is pulled again."""
        found: dict[str, StoredImage] = {}
        for path in self._layout.index.glob("*.json"):
            try:
                image = image_from(orjson.loads(path.read_bytes()))
                missing = [each.name for each in image.layers if not self._layout.layer(each.name).is_dir()]
                if missing:
                    raise ValueError(f"its layers {', '.join(missing)} are gone")
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("images.record.damaged file=%s reason=%r: the image must be had anew", path, error)
                path.rename(path.with_suffix(".damaged"))
            else:
                found[image.id] = image
        self._settle(found)

    def _settle(self, images: dict[str, StoredImage]) -> None:
        names: dict[str, str] = {}
        for image in sorted(images.values(), key=lambda each: each.sequence):
            names.update(dict.fromkeys((*image.tags, *image.digests), image.id))
        self.images = {
            key: replace(
                each,
                tags=tuple(name for name in each.tags if names[name] == key),
                digests=tuple(name for name in each.digests if names[name] == key),
            )
            for key, each in images.items()
        }
        self.names = names

    def put(self, image: StoredImage) -> StoredImage:
        """Add an image, or names to one that is there; its names leave other images. Durable when it returns. Raises OSError."""
        known = self.images.get(image.id)
        if known is not None:
            image = replace(
                image,
                tags=_union(known.tags, image.tags),
                digests=_union(known.digests, image.digests),
                is_pinned=known.is_pinned or image.is_pinned,
            )
            if replace(image, sequence=known.sequence) == known:
                return known
        image = replace(image, sequence=1 + max((each.sequence for each in self.images.values()), default=0))
        before = self.images
        self._write(image)
        self._settle({**before, image.id: image})
        for key, each in self.images.items():
            if key != image.id and each != before[key]:
                if each.is_pinned and not each.tags:  # the archive it came from holds another image now
                    each = replace(each, is_pinned=False)
                    self.images[key] = each
                self._write(each)
        return image

    def remove(self, image_id: str) -> None:
        self._path(image_id).unlink(missing_ok=True)
        sync_folder(self._layout.index)
        self._settle({key: each for key, each in self.images.items() if key != image_id})

    def layers(self) -> dict[str, StoredLayer]:
        """Every layer in use, once."""
        return {layer.name: layer for image in self.images.values() for layer in image.layers}

    def blobs(self) -> set[str]:
        return {digest for image in self.images.values() for digest in image.blobs}

    def _write(self, image: StoredImage) -> None:
        write_whole(self._path(image.id), image.dumps(), is_durable=True)

    def _path(self, image_id: str) -> Path:
        return self._layout.index / f"{image_id.partition(':')[2]}.json"


def _union(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
