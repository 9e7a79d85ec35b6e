"""Setting up a pod's volumes, one kind after the other (Kubernetes API, core/v1 Volume; layout of folders.py)."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.base.aio.aside import Aside
from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.contract.quantities import whole
from pinnace.core.base.files import set_mode
from pinnace.core.base.pod import Object, Pod
from pinnace.core.pods.material import folders as kinds
from pinnace.core.pods.material import trees
from pinnace.core.pods.material.atomic import write
from pinnace.core.pods.material.content import KINDS, Held, claims, files_of, needs
from pinnace.core.pods.material.folders import PodFolders
from pinnace.core.pods.material.hostpath import host_path
from pinnace.core.pods.material.mounts import Mounts
from pinnace.core.pods.material.persistent import Persistent, bound_volume, claim_name, nfs_command, run_mount, source_of
from pinnace.core.pods.material.sources import Sources
from pinnace.core.pods.material.tokens import Tokens
from pinnace.core.pods.rules.env import Surroundings
from pinnace.core.pods.rules.resources import pod_limits
from pinnace.core.pods.rules.security import common_user, fs_group

_FOLDERS: Final = {"configMap": kinds.CONFIG_MAP, "secret": kinds.SECRET, "downwardAPI": kinds.DOWNWARD, "projected": kinds.PROJECTED}
_IN_MEMORY: Final = frozenset({"secret", "projected"})
_EMPTY_MODE: Final = 0o777


class Ready(NamedTuple):
    """A volume that can be mounted: where it is on the node. `is_content` ones are made of files that change under their reader;
    a `is_device` one is a block device, and who touches a `is_remote` one may wait for a server."""

    path: Path
    readonly: bool = False
    is_content: bool = False
    is_device: bool = False
    is_remote: bool = False


class Volumes:
    """`around` tells what the node knows of a pod. What is somebody else's may be on a server that is away: it is touched `aside`."""

    def __init__(
        self, folders: PodFolders, mounts: Mounts, sources: Sources, tokens: Tokens, aside: Aside, *, around: Callable[[Pod], Surroundings]
    ) -> None:
        self._folders = folders
        self._mounts = mounts
        self._sources = sources
        self._tokens = tokens
        self._aside = aside
        self._around = around
        self._given: set[Path] = set()
        """Local volumes whose files were given to the pod's group after nobody waited for that any more."""

    async def set_up(self, pod: Pod, volume: Object, before: Ready | None) -> Ready:
        """Set up or bring up to date; `before` is what it was the last time in this run. Raises SourceMissing, ValueError, OSError."""
        if any(kind in volume for kind in KINDS):
            return await self._content(pod, volume)
        if "persistentVolumeClaim" in volume or "ephemeral" in volume:
            return await self._claimed(pod, volume, before)
        if "nfs" in volume:
            settings = volume["nfs"] or {}
            return await self._nfs(pod, Persistent(str(volume["name"]), "nfs", settings, bool(settings.get("readOnly"))))
        if "hostPath" in volume:
            if before is not None:
                return before
            return Ready(await self._host_path(pod, str(volume["name"]), volume["hostPath"] or {}))
        if "emptyDir" in volume or not volume.keys() - {"name"}:
            return await asyncio.to_thread(self._empty, pod, volume, before)
        raise ValueError(f"volume type {', '.join(sorted(volume.keys() - {'name'}))} is not supported by this node")

    def forget(self, pod_uid: str) -> None:
        """The pod's volumes are no more."""
        gone = self._folders.volumes(pod_uid)
        self._given -= {each for each in tuple(self._given) if gone in each.parents}

    async def _content(self, pod: Pod, volume: Object) -> Ready:
        wanted, wanted_tokens = list(needs(pod, volume)), list(claims(pod, volume))
        objects = await asyncio.gather(*(self._sources.needed(key, optional=optional) for key, optional in wanted))
        tokens = [await self._tokens.token(each) for each in wanted_tokens]
        held = Held(
            {key: obj for (key, _), obj in zip(wanted, objects, strict=True) if obj is not None},
            dict(zip(wanted_tokens, tokens, strict=True)),
            self._around(pod),
            owner=common_user(pod),
            is_grouped=fs_group(pod) is not None,
        )
        return await asyncio.to_thread(self._write, pod, volume, held)

    def _write(self, pod: Pod, volume: Object, held: Held) -> Ready:
        kind = next(each for each in KINDS if each in volume)
        folder = self._folders.volume(pod.uid, _FOLDERS[kind], str(volume["name"]))
        files = files_of(pod, volume, held)
        folder.mkdir(0o755, parents=True, exist_ok=True)
        if kind in _IN_MEMORY and not self._mounts.is_point(folder):
            self._mounts.tmpfs(folder, is_program=False)
        set_mode(folder, 0o755)  # whatever the umask: containers need not be root's
        group = fs_group(pod)
        write(folder, files, None if group is None else lambda fresh: trees.give(fresh, group, readonly=True))
        return Ready(folder, readonly=True, is_content=True)

    def _empty(self, pod: Pod, volume: Object, before: Ready | None) -> Ready:
        settings = volume.get("emptyDir") or {}
        medium = settings.get("medium") or ""
        if medium not in ("", "Memory"):
            raise ValueError(f"emptyDir: medium {medium} is not supported by this node; '' and Memory are")
        folder = self._folders.volume(pod.uid, kinds.EMPTY_DIR, str(volume["name"]))
        if before is not None and folder.is_dir() and (not medium or self._mounts.is_point(folder)):
            return before
        folder.mkdir(0o755, parents=True, exist_ok=True)
        if medium and not self._mounts.is_point(folder):
            self._mounts.tmpfs(folder, size=self._memory_bound(pod, settings), mode=_EMPTY_MODE)
        group = fs_group(pod)
        if not any(os.scandir(folder)):  # once something is in it its mode is the pod's business
            folder.chmod(_EMPTY_MODE)
        if group is not None:
            trees.give(folder, group, only_if_root_differs=True)
        return Ready(folder)

    def _memory_bound(self, pod: Pod, settings: Object) -> int:
        """The least of its sizeLimit, the pod's memory limit and what the node gives to pods."""
        bounds = (whole(settings.get("sizeLimit")), pod_limits(pod).memory_limit, whole(self._around(pod).allocatable.get("memory")))
        return min((each for each in bounds if each > 0), default=0)

    async def _claimed(self, pod: Pod, volume: Object, before: Ready | None) -> Ready:
        name = claim_name(pod, volume)
        if not name:
            raise ValueError("persistentVolumeClaim: expected a claimName")
        newest = before is None
        claim = await self._sources.get(ResourceKey("persistentvolumeclaim", pod.namespace, name), newest=newest)
        source = source_of(
            volume, claim, await self._sources.get(ResourceKey("persistentvolume", "", bound_volume(pod, volume, claim)), newest=newest)
        )
        if not kinds.is_name(source.name):
            raise ValueError(f"persistent volume {source.name!r}: expected a name of letters, digits, '-' and '.'")
        match source.kind:
            case "nfs":
                return await self._nfs(pod, source)
            case "local":
                ready = await self._aside.call((pod.uid, name), f"persistent volume {source.name}", self._local, pod, source, before)
                self._given.discard(ready.path)
                return ready
            case _:
                return Ready(await self._host_path(pod, name, source.settings), source.readonly)

    async def _host_path(self, pod: Pod, name: str, settings: Object) -> Path:
        path, kind = str(settings.get("path", "")), str(settings.get("type") or "")
        return await self._aside.call((pod.uid, name), f"hostPath {path}", host_path, path, kind)

    def _local(self, pod: Pod, source: Persistent, before: Ready | None) -> Ready:
        path = Path(str(source.settings.get("path", "")))
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise ValueError(f"persistent volume {source.name}: there is no {path} on this node") from None
        if source.is_block:
            if not stat.S_ISBLK(mode):
                raise ValueError(f"persistent volume {source.name}: {path} is no block device")
            return Ready(path.resolve(), source.readonly, is_device=True)
        if not path.is_absolute() or not stat.S_ISDIR(mode):
            raise ValueError(f"persistent volume {source.name}: {path} is no folder; format and mount a device on the node itself")
        folder = self._folders.volume(pod.uid, kinds.LOCAL, source.name)
        folder.mkdir(0o750, parents=True, exist_ok=True)
        if not self._mounts.is_point(folder):
            self._mounts.bind(path, folder, readonly=source.readonly)
        group = fs_group(pod)
        if group is not None and before is None and not source.readonly and folder not in self._given:
            policy = (pod.spec.get("securityContext") or {}).get("fsGroupChangePolicy")
            trees.give(folder, group, only_if_root_differs=policy == "OnRootMismatch")
            self._given.add(folder)  # many files take longer than anybody waits: the next try finds this done
        return Ready(folder, source.readonly)

    async def _nfs(self, pod: Pod, source: Persistent) -> Ready:
        """Nothing here looks into the mounted file system: a server that is away would hold the thread."""
        folder = self._folders.volume(pod.uid, kinds.NFS, source.name)
        command = nfs_command(source.settings, folder, readonly=source.readonly, options=source.options)
        if not await asyncio.to_thread(self._mounts.is_point, folder):
            await asyncio.to_thread(folder.mkdir, 0o750, parents=True, exist_ok=True)
            await run_mount(command)
        return Ready(folder, source.readonly, is_remote=True)


def used_volumes(pod: Pod) -> list[Object]:
    """The volumes some container mounts or has as a device; the others are never set up."""
    named = {
        str(each.get("name"))
        for container in pod.all_containers
        for each in (*(container.spec.get("volumeMounts") or ()), *(container.spec.get("volumeDevices") or ()))
    }
    return [each for each in pod.spec.get("volumes") or () if each.get("name") in named]
