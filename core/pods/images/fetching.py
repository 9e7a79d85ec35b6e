"""Fetches one image: manifest, configuration and layers from mirrors or the registry, going on where a cut line left off.

Only the child process imports this.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final

from pinnace.core.base.aio.backoff import Backoff
from pinnace.core.base.files import write_whole
from pinnace.core.base.runtime import Credential, Progress, PullFailed
from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images import manifests
from pinnace.core.pods.images.index import StoredImage, StoredLayer
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.manifests import ConfigFile, Descriptor, Manifest
from pinnace.core.pods.images.references import Reference
from pinnace.core.pods.images.registry import Answered, Registry, endpoints, words
from pinnace.core.pods.images.tree import Quota
from pinnace.core.pods.images.unpack import add_layer, chain_of, existing, locked
from pinnace.core.pods.rules.credentials import matching

ATTEMPTS: Final = 6
"""In a row without a single new byte."""
FIRST_ATTEMPTS: Final = 3
"""At a manifest that the registry answers with a transient error; when it does not answer at all the pod's back-off takes over at once."""
AHEAD: Final = 2
"""Layers that are downloaded while another is unpacked."""
_PIECE: Final = 1 << 16
_SLOWEST: Final = (1024, 60.0)
"""Fewer bytes in so many seconds count as a line that stands still."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Damaged(PullFailed):
    """What came is not what its digest or size says."""


class Fetch:
    """One pull. `sleep` is time.sleep but in tests."""

    def __init__(
        self,
        layout: Layout,
        reference: Reference,
        credentials: Sequence[Credential],
        settings: RegistrySettings | None,
        *,
        max_bytes: int,
        platforms: Sequence[str],
        progress: Progress,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._layout = layout
        self._reference = reference
        self._credentials = credentials
        self._settings = settings
        self._max_bytes = max_bytes
        self._platforms = platforms
        self._progress = progress
        self._sleep = sleep
        self._had: dict[str, int] = {}
        self._total = 0

    def run(self) -> StoredImage:
        """Raises PullFailed, LayerRefused and OSError."""
        failures: list[PullFailed] = []
        for endpoint in endpoints(self._reference.registry, self._settings):
            tried: list[PullFailed] = []
            credentials = matching(self._credentials, endpoint.host, self._reference.repository, is_mirror=endpoint.is_mirror)
            for credential in (*credentials, None):
                try:
                    return self._from(Registry(endpoint, self._reference.repository, credential))
                except PullFailed as error:
                    tried.append(error)
                    if not isinstance(error, Answered) or error.status not in (401, 403, 404):
                        break  # another user would not do better
            # "There is no such image" by somebody who may look tells more than "not you".
            known = next((each for each in tried if isinstance(each, Answered) and each.status == 404), tried[0])
            failures.append(tried[-1] if tried[-1].is_unreachable else known)
        raise failures[-1]

    def _from(self, registry: Registry) -> StoredImage:
        root_digest, manifest_digest, manifest = self._manifest(registry)
        total = sum(each.size for each in manifest.layers)
        if total > self._max_bytes:
            raise PullFailed(f"the image has {total} bytes packed; maxImageBytes of builtinRuntime allows {self._max_bytes} unpacked")
        text = self._document(registry, f"blobs/{manifest.config.digest}", manifest.config)
        config = manifests.config_file(manifests.read(text, "the image's configuration"), len(manifest.layers))
        layers = self._layers(registry, manifest, config)
        name = self._reference.with_digest
        return StoredImage(
            id=manifest.config.digest,
            tags=(str(self._reference),) if not self._reference.digest else (),
            digests=tuple(dict.fromkeys((name(root_digest), name(manifest_digest)))),
            layers=tuple(layers),
            blobs=tuple(dict.fromkeys((root_digest, manifest_digest, manifest.config.digest))),
            config=config.config,
        )

    # -- documents -----------------------------------------------------------------------------------------------------------------

    def _manifest(self, registry: Registry) -> tuple[str, str, Manifest]:
        """The digest of what the name stands for, that of this machine's manifest, and that manifest."""
        version = self._reference.version
        text, media_type = self._first(registry, version)
        root = manifests.digest_of(text, self._reference.digest or "sha256:")
        if self._reference.digest and root != self._reference.digest:
            raise Damaged(f"{registry.endpoint.host} served a manifest with the digest {root}, not {self._reference.digest}")
        document = manifests.read(text, "the manifest")
        self._keep(root, text)
        digest = root
        for _ in range(2):
            if not manifests.is_index(document, media_type):
                return root, digest, manifests.manifest(document)
            chosen = manifests.choose(document, self._platforms)
            text = self._document(registry, f"manifests/{chosen.digest}", chosen)
            digest, media_type, document = chosen.digest, chosen.media_type, manifests.read(text, "the manifest")
        if manifests.is_index(document, media_type):
            raise PullFailed("the index leads to indexes only")
        return root, digest, manifests.manifest(document)

    def _first(self, registry: Registry, version: str) -> tuple[bytes, str]:
        backoff = Backoff(0.5, 4.0)
        for attempt in range(FIRST_ATTEMPTS):
            try:
                with registry.get(f"manifests/{version}", {"Accept": manifests.ACCEPT}) as response:
                    text = _whole(response, manifests.MAX_DOCUMENT, registry.endpoint.host)
                    return text, response.headers.get("Content-Type", "")
            except Answered as error:
                if not error.is_transient or attempt == FIRST_ATTEMPTS - 1:
                    raise
                self._sleep(max(backoff.next(), min(error.retry_after, 10.0)))
        raise AssertionError("unreachable")

    def _document(self, registry: Registry, path: str, wanted: Descriptor) -> bytes:
        """A small blob or a manifest by digest, from the disk when it is there."""
        kept = self._layout.blob(wanted.digest)
        with contextlib.suppress(OSError):
            text = kept.read_bytes()
            if manifests.digest_of(text, wanted.digest) == wanted.digest:
                return text
        if wanted.size > manifests.MAX_DOCUMENT:
            raise PullFailed(f"the image's description {wanted.digest} has {wanted.size} bytes, more than any has")
        backoff = Backoff(0.5, 8.0)
        for attempt in range(ATTEMPTS):
            try:
                with registry.get(path, {"Accept": manifests.ACCEPT} if path.startswith("manifests/") else None) as response:
                    text = _whole(response, manifests.MAX_DOCUMENT, registry.endpoint.host)
                break
            except PullFailed as error:
                if attempt == ATTEMPTS - 1 or not _is_worth_a_retry(error):
                    raise
                self._sleep(backoff.next())
        else:
            raise AssertionError("unreachable")
        found = manifests.digest_of(text, wanted.digest)
        if found != wanted.digest:
            raise Damaged(f"{registry.endpoint.host} served content with the digest {found}, not {wanted.digest}")
        self._keep(wanted.digest, text)
        return text

    def _keep(self, digest: str, text: bytes) -> None:
        path = self._layout.blob(digest)
        if not path.exists():
            write_whole(path, text, is_durable=True)

    # -- layers --------------------------------------------------------------------------------------------------------------------

    def _layers(self, registry: Registry, manifest: Manifest, config: ConfigFile) -> list[StoredLayer]:
        chains = chain_of(config.diff_ids)
        quota = Quota(self._max_bytes, self._max_bytes)
        needed = [each for each, chain in zip(manifest.layers, chains, strict=True) if existing(self._layout, chain) is None]
        self._total = sum({each.digest: each.size for each in needed}.values())
        self._check_room()
        self._progress(0, self._total)
        made: list[StoredLayer] = []
        coming: dict[int, Future[None]] = {}
        pool = ThreadPoolExecutor(AHEAD, "download")
        try:
            for position, (descriptor, chain) in enumerate(zip(manifest.layers, chains, strict=True)):
                for ahead in range(position, min(position + 1 + AHEAD, len(chains))):
                    if ahead not in coming:
                        coming[ahead] = pool.submit(self._download, registry, manifest.layers[ahead], chains[ahead])
                coming[position].result()
                source = self._opener(registry, descriptor, chain)
                made.append(add_layer(self._layout, chain, config.diff_ids[position], made, quota=quota, source=source))
                if all(each.digest != descriptor.digest for each in manifest.layers[position + 1 :]):
                    self._layout.partial(descriptor.digest).unlink(missing_ok=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self._progress(self._total, self._total)
        return made

    def _check_room(self) -> None:
        status = os.statvfs(self._layout.root)
        free = status.f_bavail * status.f_frsize
        if self._total > free:
            raise PullFailed(f"{self._layout.root} has {free} bytes left, and the image needs more than {self._total}: free some space")

    def _opener(self, registry: Registry, descriptor: Descriptor, chain: str) -> Callable[[], contextlib.AbstractContextManager[IO[bytes]]]:
        @contextlib.contextmanager
        def opened() -> Iterator[IO[bytes]]:
            path = self._layout.partial(descriptor.digest)
            if not path.exists():  # another child unpacked it above other layers, and threw it away
                self._download(registry, descriptor, chain)
            with path.open("rb") as stream:
                yield stream

        return opened

    def _download(self, registry: Registry, wanted: Descriptor, chain: str) -> None:
        """The blob, whole and verified, as a partial file; nothing when the layer it is for is there."""
        if existing(self._layout, chain) is not None:
            return
        with locked(self._layout, wanted.digest):
            if existing(self._layout, chain) is not None:
                return
            path = self._layout.partial(wanted.digest)
            had = _size(path)
            if had > wanted.size:
                path.unlink()
                had = 0
            self._count(wanted, had)
            self._complete(registry, wanted, path)
            if _digest_of(path, wanted.digest) == wanted.digest:
                return
            path.unlink()
            if had:  # what an earlier attempt left may have been at fault
                self._count(wanted, 0)
                self._complete(registry, wanted, path)
                if _digest_of(path, wanted.digest) == wanted.digest:
                    return
                path.unlink()
            raise Damaged(f"{registry.endpoint.host} served a layer whose content has not the digest {wanted.digest} it goes by")

    def _complete(self, registry: Registry, wanted: Descriptor, path: Path) -> None:
        """Go on until the file has its size. Raises when nothing new comes for several attempts."""
        backoff, fruitless, furthest = Backoff(0.5, 8.0), 0, _size(path)
        while (had := _size(path)) < wanted.size:
            try:
                self._attempt(registry, wanted, path, had)
            except PullFailed as error:
                fruitless += 1
                if (came := _size(path)) > furthest:
                    fruitless, furthest = 0, came
                    backoff.reset()
                if fruitless >= ATTEMPTS or not _is_worth_a_retry(error):
                    raise
                self._sleep(backoff.next())
        if had > wanted.size:
            path.unlink()
            raise Damaged(f"{registry.endpoint.host} served more than the {wanted.size} bytes of layer {wanted.digest}")

    def _attempt(self, registry: Registry, wanted: Descriptor, path: Path, had: int) -> None:
        headers = {"Range": f"bytes={had}-"} if had else None
        host = registry.endpoint.host
        try:
            with registry.get(f"blobs/{wanted.digest}", headers) as response, path.open("ab") as out:
                begin = _RANGE.match(response.headers.get("Content-Range", ""))
                if response.status == 200 or begin is None or int(begin[1]) != had:
                    out.truncate(0)
                    had = 0
                    if response.status == 206:
                        raise PullFailed(f"{host} answered with another part of {wanted.digest} than was asked for", is_unreachable=True)
                length = response.headers.get("Content-Length", "")
                if length.isdigit() and had + int(length) != wanted.size:
                    raise Damaged(f"{host} has {had + int(length)} bytes for layer {wanted.digest}, which should have {wanted.size}")
                self._copy(response, out, wanted, had, host)
        except Answered as error:
            if error.status == 416:
                path.unlink(missing_ok=True)
                raise PullFailed(f"{host} does not go on with {wanted.digest}", is_unreachable=True) from None
            raise

    def _copy(self, response: Any, out: IO[bytes], wanted: Descriptor, had: int, host: str) -> None:
        least, seconds = _SLOWEST
        window, mark = time.monotonic(), had
        with words(host):
            while piece := response.read1(_PIECE):
                had += len(piece)
                if had > wanted.size:
                    out.truncate(0)
                    raise Damaged(f"{host} served more than the {wanted.size} bytes of layer {wanted.digest}")
                out.write(piece)
                self._count(wanted, had)
                if time.monotonic() - window > seconds:
                    if had - mark < least:
                        raise PullFailed(f"no answer from {host}: the line stands still", reason="RegistryUnavailable", is_unreachable=True)
                    window, mark = time.monotonic(), had
        if had < wanted.size:
            raise PullFailed(f"{host} ended layer {wanted.digest} after {had} of {wanted.size} bytes")

    def _count(self, wanted: Descriptor, had: int) -> None:
        self._had[wanted.digest] = had
        self._progress(min(sum(self._had.values()), self._total), self._total)


def _is_worth_a_retry(error: PullFailed) -> bool:
    if isinstance(error, Answered):
        return error.is_transient
    return not isinstance(error, Damaged)


def _whole(response: Any, limit: int, host: str) -> bytes:
    with words(host):
        text = response.read(limit + 1)
    if len(text) > limit:
        raise Damaged(f"{host} answered with more than {limit} bytes where a description was expected")
    return bytes(text)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest_of(path: Path, like: str) -> str:
    algorithm = like.partition(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"
