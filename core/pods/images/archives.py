"""Reads OCI archives (a tar of an image layout) and docker archives (`docker save`), packed with gzip or zstd or not.

Only the child process imports this. Formats: OCI image specification, image-layout.md; docker's image specification v1.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from pinnace.core.base.files import write_whole
from pinnace.core.base.imagefiles import FULL_NAME, REF_NAME
from pinnace.core.base.runtime import Progress, PullFailed
from pinnace.core.pods.images import manifests
from pinnace.core.pods.images.index import StoredImage, StoredLayer
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.manifests import ConfigFile, Descriptor
from pinnace.core.pods.images.references import parse
from pinnace.core.pods.images.tree import Quota
from pinnace.core.pods.images.unpack import add_layer, chain_of, forget, plain

_PIECE: Final = 1 << 20
_MAX_ENTRIES: Final = 20_000
_DAMAGED = (tarfile.TarError, EOFError, ValueError, OverflowError)


class Section(io.RawIOBase):
    """A part of a file, read as a file of its own."""

    def __init__(self, stream: IO[bytes], offset: int, size: int) -> None:
        super().__init__()
        self._stream, self._offset, self._size, self._at = stream, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        most = max(0, min(len(buffer), self._size - self._at))
        self._stream.seek(self._offset + self._at)
        content = self._stream.read(most)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


class Archive:
    """The members of an archive by name, read where they lie. Raises PullFailed for what is no archive or is cut off."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._places: dict[str, tuple[int, int]] = {}
        links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                while (member := tar.next()) is not None:
                    forget(tar)
                    name = posixpath.normpath(member.name).lstrip("/")
                    if member.isreg() and member.sparse is None:
                        self._places[name] = (member.offset_data, member.size)
                    elif member.issym():
                        links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
                    elif member.islnk():
                        links[name] = posixpath.normpath(member.linkname)
                    if len(self._places) + len(links) > _MAX_ENTRIES:
                        raise PullFailed(f"it has more than {_MAX_ENTRIES} entries, which no archive of images has")
        except _DAMAGED as error:
            raise PullFailed(f"it is no archive of images, or not whole: {error}") from None
        for name, target in links.items():  # old docker: the same layer again
            if target in self._places:
                self._places[name] = self._places[target]
        end = stream.seek(0, os.SEEK_END)
        if any(offset + size > end for offset, size in self._places.values()):
            raise PullFailed("it is cut off; it was not copied whole")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def open(self, name: str) -> IO[bytes]:
        place = self._places.get(posixpath.normpath(name))
        if place is None:
            raise PullFailed(f"it has no {name!r}, which its index names")
        return io.BufferedReader(Section(self._stream, *place), _PIECE)

    def read(self, name: str) -> bytes:
        with self.open(name) as stream:
            text = stream.read(manifests.MAX_DOCUMENT + 1)
        if len(text) > manifests.MAX_DOCUMENT:
            raise PullFailed(f"its {name!r} is too large for a description")
        return text

    def blob(self, wanted: Descriptor) -> str:
        return f"blobs/{wanted.digest.replace(':', '/')}"

    def verified(self, wanted: Descriptor) -> bytes:
        text = self.read(self.blob(wanted))
        self._compare(wanted, manifests.digest_of(text, wanted.digest))
        return text

    def verify(self, wanted: Descriptor) -> None:
        with self.open(self.blob(wanted)) as stream:
            algorithm = wanted.digest.partition(":")[0]
            self._compare(wanted, f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}")  # type: ignore[arg-type]

    def _compare(self, wanted: Descriptor, found: str) -> None:
        if found != wanted.digest:
            raise PullFailed(f"its blob {wanted.digest} is damaged: the content's digest is {found}")


@dataclass(frozen=True, slots=True)
class _Found:
    """An image in an archive, before its layers are unpacked."""

    id: str
    names: tuple[str, ...]
    manifest: Descriptor | None
    config: ConfigFile
    layers: tuple[tuple[str, Descriptor | None], ...]
    """Their members, with what to verify them by besides the diff id."""
    documents: Mapping[str, bytes]


def load(layout: Layout, path: Path, *, max_bytes: int, platforms: Sequence[str], progress: Progress) -> Iterator[StoredImage]:
    """Every image of the archive that this machine can run, unpacked. Raises PullFailed, LayerRefused and OSError."""
    with _plain_file(layout, path, max_bytes) as stream:
        archive = Archive(stream)
        if "index.json" in archive:
            found = list(_from_layout(archive, path.name.partition(".")[0], platforms))
        elif "manifest.json" in archive:
            found = list(_from_docker(archive))
        else:
            raise PullFailed("it is no archive of images: neither index.json (OCI) nor manifest.json (docker save) is in it")
        if not found:
            raise PullFailed("it has no image")
        total = sum(len(each.layers) for each in found)
        done = 0
        for each in found:
            quota, chains = Quota(max_bytes, max_bytes), chain_of(each.config.diff_ids)
            made: list[StoredLayer] = []
            for (member, wanted), chain, diff_id in zip(each.layers, chains, each.config.diff_ids, strict=True):
                made.append(add_layer(layout, chain, diff_id, made, quota=quota, source=_opener(archive, member, wanted)))
                done += 1
                progress(done, total)
            yield _stored(layout, each, made)


def _stored(layout: Layout, found: _Found, layers: Sequence[StoredLayer]) -> StoredImage:
    for digest, text in found.documents.items():
        if not layout.blob(digest).exists():
            write_whole(layout.blob(digest), text, is_durable=True)
    references = [parse(each) for each in found.names]
    return StoredImage(
        id=found.id,
        tags=tuple(str(each) for each in references if not each.digest),
        digests=tuple(each.with_digest(found.manifest.digest) for each in references if found.manifest is not None),
        layers=tuple(layers),
        blobs=tuple(found.documents),
        config=found.config.config,
        is_pinned=True,
    )


def _opener(archive: Archive, member: str, wanted: Descriptor | None) -> Callable[[], contextlib.AbstractContextManager[IO[bytes]]]:
    def opened() -> contextlib.AbstractContextManager[IO[bytes]]:
        if wanted is not None:
            archive.verify(wanted)
        return archive.open(member)

    return opened


@contextlib.contextmanager
def _plain_file(layout: Layout, path: Path, max_bytes: int) -> Iterator[IO[bytes]]:
    """The archive as a plain tar that can be read anywhere in it."""
    with path.open("rb") as stream:
        unpacked = plain(stream)
        if unpacked is stream:
            yield stream
            return
        work = layout.working("archive", os.getpid())
        try:
            with work.open("w+b") as out:
                try:
                    while piece := unpacked.read(_PIECE):
                        out.write(piece)
                        if out.tell() > max_bytes:
                            raise PullFailed(f"it unpacks to more than the {max_bytes} bytes that maxImageBytes of builtinRuntime allows")
                except ValueError as error:
                    raise PullFailed(f"it is damaged or not whole: {error}") from None
                out.seek(0)
                yield out
        finally:
            work.unlink(missing_ok=True)


def _from_layout(archive: Archive, stem: str, platforms: Sequence[str]) -> Iterator[_Found]:
    index = manifests.read(archive.read("index.json"), "its index.json")
    listed = index.get("manifests")
    by_config = {config: names for config, names, _ in _docker_entries(archive)} if "manifest.json" in archive else {}
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in listed if isinstance(listed, list) else []:
        if isinstance(each, dict):
            annotations = each.get("annotations")
            groups.setdefault(_name(annotations if isinstance(annotations, dict) else {}, stem), []).append(each)
    for name, entries in groups.items():
        # Several entries of one name are the image for several platforms, as in an index.
        entry = manifests.choose({"manifests": entries}, platforms) if len(entries) > 1 else _only(entries[0])
        found = _image(archive, entry, platforms)
        names = (name,) if name else tuple(by_config.get(f"blobs/{found.id.replace(':', '/')}", ()))
        yield _Found(found.id, names, found.manifest, found.config, found.layers, found.documents)


def _only(entry: Mapping[str, Any]) -> Descriptor:
    return manifests.choose({"manifests": [{key: value for key, value in entry.items() if key != "platform"}]}, ("",))


def _image(archive: Archive, entry: Descriptor, platforms: Sequence[str]) -> _Found:
    documents: dict[str, bytes] = {}
    for _ in range(3):
        text = archive.verified(entry)
        documents[entry.digest] = text
        document = manifests.read(text, "the manifest")
        if manifests.is_index(document, entry.media_type):
            entry = manifests.choose(document, platforms)
            continue
        manifest = manifests.manifest(document)
        config_text = archive.verified(manifest.config)
        documents[manifest.config.digest] = config_text
        config = manifests.config_file(manifests.read(config_text, "the image's configuration"), len(manifest.layers))
        layers = tuple((archive.blob(each), each) for each in manifest.layers)
        return _Found(manifest.config.digest, (), entry, config, layers, documents)
    raise PullFailed("its index leads to indexes only")


def _from_docker(archive: Archive) -> Iterator[_Found]:
    for config_name, names, members in _docker_entries(archive):
        text = archive.read(config_name)
        config = manifests.config_file(manifests.read(text, "the image's configuration"), len(members))
        digest = manifests.digest_of(text)
        yield _Found(digest, names, None, config, tuple((each, None) for each in members), {digest: text})


def _docker_entries(archive: Archive) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    listed = manifests.read(b'{"images":' + archive.read("manifest.json") + b"}", "its manifest.json").get("images")
    for each in listed if isinstance(listed, list) else []:
        if not isinstance(each, dict) or not isinstance(each.get("Config"), str) or not isinstance(each.get("Layers"), list):
            raise PullFailed("its manifest.json is not what docker save writes")
        yield each["Config"], tuple(map(str, each.get("RepoTags") or ())), tuple(map(str, each["Layers"]))


def _name(annotations: Mapping[str, Any], stem: str) -> str:
    """A whole name, or a tag alone, which makes the file's name the image's."""
    full, short = annotations.get(FULL_NAME), annotations.get(REF_NAME)
    if isinstance(full, str) and full:
        return full
    if not isinstance(short, str) or not short:
        return ""
    return short if "/" in short or ":" in short else f"{stem}:{short}"
