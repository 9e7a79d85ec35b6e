"""Static pods: the files of a folder on this node that describe pods (Kubernetes, static pods)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.contract.moments import moment
from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.statics import static_pod

logger = logging.getLogger(__name__)

_BYTES: Final = 1 << 20
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})

_Signature = tuple[int, int, int, int]
_UNSEEN: Final[_Signature] = (0, 0, 0, 0)


class _File(NamedTuple):
    """A file as it was last read: `pod` is that of the newest content that could be used, None when there never was one."""

    signature: _Signature
    pod: Pod | None
    problem: str


class StaticPods:
    """Looks at the folder each `look_seconds` and gives the pods to `tell` when something changed. What is wrong with a file is said once;
    meanwhile the pod of its former content stays."""

    def __init__(
        self, folder: Path, node: NodeName, tell: Callable[[Sequence[Pod]], None], *, look_seconds: float, clock: Clock | None = None
    ) -> None:
        self._folder = folder
        self._node = node
        self._tell = tell
        self._look_seconds = look_seconds
        self._clock = clock or LoopClock()
        self._files: dict[str, _File] = {}
        self._told: list[Pod] | None = None
        self._is_unreadable = False
        self._doubles: set[str] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await self._clock.sleep(self._look_seconds)

    async def look(self) -> None:
        """Once; the first look comes before what the node should not run is ended."""
        try:
            self._files = await asyncio.to_thread(self._read)
            self._is_unreadable = False
        except OSError as error:
            if not self._is_unreadable:
                logger.warning("pods.static.unreadable folder=%s reason=%s; its pods stay as they are", self._folder, error)
            self._is_unreadable = True
            if self._told is None and not isinstance(error, NotADirectoryError):
                return  # pods of files that cannot be read now may be running: who does not know them must not end them
        pods = self._distinct()
        if self._told is None or pods != self._told:
            self._tell(pods)
            self._told = pods

    def _distinct(self) -> list[Pod]:
        pods: dict[str, Pod] = {}
        doubles = set()
        for name, file in sorted(self._files.items()):
            if file.pod is None:
                continue
            key = f"{file.pod.namespace}/{file.pod.name}"
            if key in pods:
                doubles.add(name)
                if name not in self._doubles:
                    logger.warning("pods.static.doubled file=%s pod=%s: another file has this name already; rename one", name, key)
            else:
                pods[key] = file.pod
        self._doubles = doubles
        return list(pods.values())

    def _read(self) -> dict[str, _File]:
        """In a thread. Raises OSError when the folder cannot be read; a missing one is empty."""
        try:
            paths = [each for each in self._folder.iterdir() if each.suffix in _SUFFIXES and not each.name.startswith(".")]
        except FileNotFoundError:
            return {}
        found = {}
        for path in paths:
            before = self._files.get(path.name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:  # a link that leads to itself, say
                found[path.name] = _refused(path, _UNSEEN, before, error)
                continue
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode)
            found[path.name] = before if before is not None and before.signature == signature else self._file(path, signature, before)
        return found

    def _file(self, path: Path, signature: _Signature, before: _File | None) -> _File:
        former = before.pod if before is not None else None
        seen = moment(self._clock.wall())
        try:
            if not path.is_file() or signature[1] > _BYTES:
                raise ValueError(f"expected a file of at most {_BYTES >> 10} KiB")
            pod = static_pod(_decoded(path), source=str(path), node=self._node, seen=seen)
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OSError) as error:
            return _refused(path, signature, before, error)
        if former is not None and former.uid == pod.uid and _without_seen(former) == _without_seen(pod):
            pod = former
        return _File(signature, pod, "")


def _refused(path: Path, signature: _Signature, before: _File | None, error: Exception) -> _File:
    former = before.pod if before is not None else None
    problem = " ".join(str(error).split())[:300]
    if before is None or before.problem != problem:
        kept = "; the pod of its former content stays" if former else ""
        logger.warning("pods.static.refused file=%s reason=%s%s", path, problem, kept)
    return _File(signature, former, problem)


def _without_seen(pod: Pod) -> tuple[Any, Any]:
    return pod.spec, pod.labels


def _decoded(path: Path) -> Any:
    """The content as JSON knows it. Raises ValueError, OSError."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return orjson.loads(data)
    import yaml

    try:
        content = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return orjson.loads(orjson.dumps(content))
