"""What registries and archives say about images: manifests, indexes and configurations, read with suspicion.

Formats: OCI image specification (manifest.md, image-index.md, config.md); docker's image manifest version 2, schema 2. Pure.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pinnace.core.base.runtime import PullFailed
from pinnace.core.pods.images.records import ImageConfig

OCI: Final = "application/vnd.oci.image."
DOCKER: Final = "application/vnd.docker.distribution.manifest."
INDEX_TYPES: Final = (OCI + "index.v1+json", DOCKER + "list.v2+json")
MANIFEST_TYPES: Final = (OCI + "manifest.v1+json", DOCKER + "v2+json")
ACCEPT: Final = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
MAX_DOCUMENT: Final = 4 << 20
MAX_LAYERS: Final = 127

_LAYER = re.compile(
    r"application/vnd\.oci\.image\.layer\.(nondistributable\.)?v1\.tar(\+gzip|\+zstd)?"
    r"|application/vnd\.docker\.image\.rootfs\.(foreign\.)?diff\.tar(\.gzip|\.zstd)?"
)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_DIFF_ID = re.compile(r"sha256:[a-f0-9]{64}")
_MACHINES: Final = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm/v8", "arm/v7", "arm/v6", "arm/v5"),
    "armv8l": ("arm/v8", "arm/v7", "arm/v6", "arm/v5"),
    "armv7l": ("arm/v7", "arm/v6", "arm/v5"),
    "armv6l": ("arm/v6", "arm/v5"),
    "i686": ("386",),
    "riscv64": ("riscv64",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
}
_USUAL: Final = {("arm64", "v8"): "", ("arm", ""): "v7", ("amd64", "v1"): ""}
"""Variants that say the same as another: arm64 is arm64/v8, arm is arm/v7."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at content: its digest and its size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What an image's configuration says; `config` is what containers take from it."""

    diff_ids: tuple[str, ...]
    config: ImageConfig


def platforms(machine: str) -> tuple[str, ...]:
    """What this machine runs, best first, as arch[/variant]; `machine` is uname's. A 32-bit program on a 64-bit ARM kernel says that the
    system is a 32-bit one."""
    if machine == "aarch64" and struct.calcsize("P") == 4:
        machine = "armv8l"
    return _MACHINES.get(machine, (machine,))


def digest_of(content: bytes, like: str = "sha256:") -> str:
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def read(content: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises PullFailed."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise PullFailed(f"{what} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise PullFailed(f"{what} is no JSON object")
    return document


def is_index(document: Mapping[str, Any], media_type: str) -> bool:
    """Whether it offers several images. Raises PullFailed for what is neither that nor a manifest of today."""
    kind = str(document.get("mediaType") or media_type.partition(";")[0].strip())
    if document.get("schemaVersion") == 1 or kind.startswith(DOCKER + "v1"):
        raise PullFailed("the image is stored in the format schema 1, given up in 2017; push it again with a present-day tool")
    if document.get("schemaVersion") != 2:
        raise PullFailed("the registry answered with something that is no image manifest")
    has_layers, has_manifests = "layers" in document or "config" in document, "manifests" in document
    if has_layers and has_manifests:
        raise PullFailed("the manifest is an image and an index at once, which is refused")
    if (kind in INDEX_TYPES and has_layers) or (kind in MANIFEST_TYPES and has_manifests) or not (has_layers or has_manifests):
        raise PullFailed(f"the manifest is not what its media type {kind} says")
    return has_manifests


def manifest(document: Mapping[str, Any]) -> Manifest:
    """Raises PullFailed for what is no container image."""
    listed = document.get("layers")
    if not isinstance(listed, list):
        raise PullFailed("the manifest lists no layers")
    layers = tuple(_descriptor(each) for each in listed)
    for each in layers:
        if not _LAYER.fullmatch(each.media_type):
            raise PullFailed(f"is no container image but holds {each.media_type or 'something unnamed'}; correct the pod's image")
    if len(layers) > MAX_LAYERS:
        raise PullFailed(f"the image has {len(layers)} layers; more than {MAX_LAYERS} cannot be put together")
    return Manifest(_descriptor(document.get("config")), layers)


def choose(document: Mapping[str, Any], wanted: Sequence[str]) -> Descriptor:
    """Of an index the image for the first platform of `wanted` that it has. Raises PullFailed naming what there is."""
    listed = document.get("manifests")
    if not isinstance(listed, list):
        raise PullFailed("the index lists no images")
    offered: dict[str, Descriptor] = {}
    plain: list[Descriptor] = []
    for each in listed:
        descriptor = _descriptor(each)
        platform = each.get("platform")
        if not isinstance(platform, dict):
            plain.append(descriptor)
            continue
        if platform.get("os") == "linux":
            offered.setdefault(platform_name(str(platform.get("architecture", "")), str(platform.get("variant") or "")), descriptor)
    for name in wanted:
        if name in offered:
            return offered[name]
    if not offered and len(plain) == 1:
        return plain[0]
    have = ", ".join(f"linux/{each}" for each in offered) or "none for Linux"
    raise PullFailed(f"the image has no variant for this machine (linux/{wanted[0]}); it has: {have}")


def platform_name(architecture: str, variant: str) -> str:
    variant = _USUAL.get((architecture, variant), variant)
    return f"{architecture}/{variant}" if variant else architecture


def config_file(document: Mapping[str, Any], layers: int | None = None) -> ConfigFile:
    """Raises PullFailed when it does not fit an image of so many layers."""
    root = document.get("rootfs")
    diff_ids = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(each, str) and _DIFF_ID.fullmatch(each) for each in diff_ids):
        raise PullFailed("the image's configuration lists no layers (rootfs.diff_ids)")
    if layers is not None and len(diff_ids) != layers:
        raise PullFailed(f"the image has {layers} layers and its configuration {len(diff_ids)}")
    system = document.get("os", "linux")
    if system not in ("linux", ""):
        raise PullFailed(f"the image is for {system}, not for Linux")
    section = document.get("config")
    config = section if isinstance(section, dict) else {}
    env = [each.partition("=") for each in _texts(config, "Env")]
    volumes = config.get("Volumes")
    return ConfigFile(
        tuple(diff_ids),
        ImageConfig(
            env=tuple((name, value) for name, sign, value in env if name and sign),
            entrypoint=_texts(config, "Entrypoint"),
            cmd=_texts(config, "Cmd"),
            working_dir=_text(config, "WorkingDir"),
            user=_text(config, "User"),
            stop_signal=_text(config, "StopSignal"),
            volumes=tuple(volumes) if isinstance(volumes, dict) else (),
        ),
    )


def _descriptor(value: Any) -> Descriptor:
    if not isinstance(value, dict):
        raise PullFailed("the manifest points at nothing where content should be")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise PullFailed(f"the manifest has a digest that is none: {str(digest)[:80]!r}")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise PullFailed(f"the manifest gives no size for {digest}")
    return Descriptor(str(value.get("mediaType", "")), digest, size)


def _text(section: Mapping[str, Any], key: str) -> str:
    value = section.get(key)
    return value if isinstance(value, str) else ""


def _texts(section: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = section.get(key)
    if isinstance(value, str):  # of old builders, which mean one word
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list) else ()
