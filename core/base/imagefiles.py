"""Makes container images without a builder: layers from trees or tar members, written as one OCI archive; same input, same bytes.

The formats are the OCI image specification's (image-layout.md, manifest.md, config.md, layer.md). Nothing of a running agent imports this.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
REF_NAME: Final = "org.opencontainers.image.ref.name"
FULL_NAME: Final = "io.containerd.image.name"
"""Annotations of a manifest in index.json that say what the image is called: its tag or name, and its whole name."""


class Compression(Enum):
    """What a layer is packed with; the value is the end of its media type."""

    NONE = ""
    GZIP = "+gzip"
    ZSTD = "+zstd"


@dataclass(frozen=True, slots=True)
class Platform:
    """In Go's words: linux; amd64, arm64, arm, 386; v6, v7, v8 or nothing."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def document(self) -> dict[str, str]:
        found = {"architecture": self.architecture, "os": self.os}
        return {**found, "variant": self.variant} if self.variant else found

    def __str__(self) -> str:
        return "/".join(each for each in (self.os, self.architecture, self.variant) if each)


@dataclass(frozen=True, slots=True)
class Blob:
    """Content with its address; a large one stays in a file."""

    media_type: str
    digest: str
    size: int
    content: bytes | Path = field(repr=False)

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed layer; `diff_id` is the digest of the tar in it."""

    blob: Blob
    diff_id: str


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """A whole image for one platform."""

    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]
    platform: Platform

    @property
    def blobs(self) -> tuple[Blob, ...]:
        return (self.config, *(each.blob for each in self.layers))


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def dumps(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def pack(tar: bytes, compression: Compression = Compression.GZIP) -> Layer:
    """A layer of a small tar. zstd needs the package `zstandard`."""
    if compression is Compression.GZIP:
        packed = gzip.compress(tar, mtime=0)
    elif compression is Compression.ZSTD:
        import zstandard

        packed = zstandard.ZstdCompressor().compress(tar)
    else:
        packed = tar
    return Layer(Blob(OCI_LAYER + compression.value, digest_of(packed), len(packed), packed), digest_of(tar))


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Members as they are, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def tree_layer(tree: Path, scratch: Path, *, mtime: int = 0) -> Layer:
    """The files below `tree` as a gzip layer in the new file `scratch`: sorted, owned by root, all of one time, so that the digest
    depends on names, contents, modes and links alone. Sockets and devices are left out. Raises OSError."""
    with scratch.open("wb") as out:
        packed = _Counted(out)
        with gzip.GzipFile(filename="", fileobj=cast(BinaryIO, packed), mode="wb", mtime=0) as squeezed:
            plain = _Counted(squeezed)
            with tarfile.open(fileobj=cast(BinaryIO, plain), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted(_below(tree)):
                    _add(tar, tree, path, mtime)
    return Layer(Blob(OCI_LAYER + Compression.GZIP.value, packed.digest, packed.count, scratch), plain.digest)


def _below(tree: Path) -> Iterable[Path]:
    for folder, folders, files in os.walk(tree):
        yield from (Path(folder, name) for name in (*folders, *files))


def _add(tar: tarfile.TarFile, tree: Path, path: Path, mtime: int) -> None:
    status = path.lstat()
    member = tarfile.TarInfo(str(path.relative_to(tree)))
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), mtime
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        with path.open("rb") as content:
            tar.addfile(member, content)


def build(layers: Sequence[Layer], config: Mapping[str, Any] | None = None, *, platform: Platform | None = None) -> BuiltImage:
    """An image of layers, the lowest first. `config` is the part that a container takes over: Entrypoint, Cmd, Env, User, ..."""
    platform = platform or Platform()
    document = {
        **platform.document(),
        "created": "1970-01-01T00:00:00Z",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z"} for _ in layers],
    }
    text = dumps(document)
    config_blob = Blob(OCI_CONFIG, digest_of(text), len(text), text)
    manifest = dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config_blob.descriptor(),
            "layers": [each.blob.descriptor() for each in layers],
        }
    )
    return BuiltImage(Blob(OCI_MANIFEST, digest_of(manifest), len(manifest), manifest), config_blob, tuple(layers), platform)


def index_of(images: Sequence[BuiltImage]) -> Blob:
    """An index that offers the same image for several platforms."""
    text = dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{**each.manifest.descriptor(), "platform": each.platform.document()} for each in images],
        }
    )
    return Blob(OCI_INDEX, digest_of(text), len(text), text)


def write_archive(target: Path, images: Mapping[str, Sequence[BuiltImage]]) -> str:
    """Write name → the image for each platform as one OCI archive (a tar of an image layout), in place of `target` once it is whole; gives
    the digest of the file. A name is a whole one, such as docker.io/library/busybox:1.36."""
    blobs: dict[str, Blob] = {}
    entries: list[dict[str, Any]] = []
    for name, variants in images.items():
        for each in variants:
            blobs.update({blob.digest: blob for blob in (each.manifest, *each.blobs)})
        root = variants[0].manifest if len(variants) == 1 else index_of(variants)
        blobs[root.digest] = root
        entry = {**root.descriptor(), "annotations": {FULL_NAME: name, REF_NAME: name}}
        entries.append({**entry, "platform": variants[0].platform.document()} if len(variants) == 1 else entry)
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as out:
        counted = _Counted(out)
        with tarfile.open(fileobj=cast(BinaryIO, counted), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            _put(tar, "oci-layout", dumps({"imageLayoutVersion": "1.0.0"}))
            _put(tar, "index.json", dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
            for digest in sorted(blobs):
                _put(tar, f"blobs/{digest.replace(':', '/')}", blobs[digest].content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(target)
    return counted.digest


def _put(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(content, bytes):
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        return
    with content.open("rb") as stream:
        member.size = os.fstat(stream.fileno()).st_size
        tar.addfile(member, stream)


def read_archive(source: Path, scratch: Path) -> dict[str, BuiltImage]:
    """Name → image of an archive that `write_archive` made with one platform an image; layers are put into files in `scratch`. Raises
    OSError, and ValueError when the archive is another one."""
    with tarfile.open(source) as tar:

        def content(digest: str) -> bytes:
            found = tar.extractfile(f"blobs/{digest.replace(':', '/')}")
            if found is None:
                raise ValueError(f"{source}: {digest} is no file")
            return found.read()

        try:
            index = json.loads(cast(BinaryIO, tar.extractfile("index.json")).read())
            found = {}
            for entry in index["manifests"]:
                manifest = json.loads(content(entry["digest"]))
                config = json.loads(content(manifest["config"]["digest"]))
                layers = []
                for descriptor, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
                    path = scratch / descriptor["digest"].replace(":", "-")
                    path.write_bytes(content(descriptor["digest"]))
                    layers.append(Layer(Blob(descriptor["mediaType"], descriptor["digest"], descriptor["size"], path), diff_id))
                made_for = Platform(config["os"], config["architecture"], config.get("variant", ""))
                found[entry["annotations"][FULL_NAME]] = build(layers, config["config"], platform=made_for)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{source}: is no archive of images as `write_archive` makes them: {error}") from error
    return found


def reconfigured(source: Path, target: Path, env: Mapping[str, str]) -> None:
    """Write an archive's images anew with further environment variables. Raises as `read_archive`."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        images: dict[str, Sequence[BuiltImage]] = {}
        for name, image in read_archive(source, Path(scratch)).items():
            config = json.loads(image.config.read())["config"]
            kept = [each for each in config.get("Env") or [] if each.partition("=")[0] not in env]
            images[name] = [
                build(image.layers, {**config, "Env": [*kept, *(f"{key}={value}" for key, value in env.items())]}, platform=image.platform)
            ]
        write_archive(target, images)


def for_docker(image: BuiltImage) -> BuiltImage:
    """The same image under docker's media types (image manifest version 2, schema 2)."""
    prefix = "application/vnd.docker."
    ends = {OCI_LAYER + Compression.GZIP.value: ".gzip", OCI_LAYER: "", OCI_LAYER + Compression.ZSTD.value: ".zstd"}
    layers = tuple(
        replace(each, blob=replace(each.blob, media_type=f"{prefix}image.rootfs.diff.tar{ends[each.blob.media_type]}"))
        for each in image.layers
    )
    config = replace(image.config, media_type=prefix + "container.image.v1+json")
    media_type = prefix + "distribution.manifest.v2+json"
    text = dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": [each.blob.descriptor() for each in layers],
        }
    )
    return BuiltImage(Blob(media_type, digest_of(text), len(text), text), config, layers, image.platform)


class _Counted:
    """Writes on, and knows the size and digest of what went through."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._hash = hashlib.sha256()
        self.count = 0

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self.count += len(content)
        self._out.write(content)
        return len(content)

    def flush(self) -> None:
        self._out.flush()

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()
