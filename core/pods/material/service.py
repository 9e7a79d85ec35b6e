"""The Materials of the pods: what `ports.Materials` promises, put together from the other modules here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.base.aio.aside import Aside
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import StoreError
from pinnace.core.base.files import set_mode
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.ports import ObjectChange, ObjectStore, Uplink
from pinnace.core.base.runtime import ContainerConfig, Credential, Device, Dns, Image, Mount, SandboxConfig
from pinnace.core.base.settings.edged import EdgedSettings
from pinnace.core.pods.material.binding import Binding
from pinnace.core.pods.material.cleaning import clean
from pinnace.core.pods.material.configs import container_annotations, container_labels, sandbox_of
from pinnace.core.pods.material.content import data_of
from pinnace.core.pods.material.folders import PodFolders, is_name
from pinnace.core.pods.material.mounts import Mounts
from pinnace.core.pods.material.persistent import answers
from pinnace.core.pods.material.references import environment_needs, pull_secrets, uses
from pinnace.core.pods.material.remote import RemoteVolumes
from pinnace.core.pods.material.sources import Queries, SourceMissing, Sources
from pinnace.core.pods.material.tokens import Tokens
from pinnace.core.pods.material.volumes import Ready, Volumes, used_volumes
from pinnace.core.pods.ports import Cgroups, Events, SpecRefused, VolumesNotReady
from pinnace.core.pods.rules.credentials import credentials_in
from pinnace.core.pods.rules.dns import dns_of, read_resolv_conf
from pinnace.core.pods.rules.env import Surroundings, environment, expand
from pinnace.core.pods.rules.resources import container_resources
from pinnace.core.pods.rules.security import security_of

logger = logging.getLogger(__name__)

KINDS: Final = ("configmap", "secret", "persistentvolumeclaim", "persistentvolume")
"""The kinds of objects pods are made from, for `Sync.on_change`."""
_SYSTEMD_RESOLVED: Final = Path("/run/systemd/resolve/resolv.conf")
_UNIFIED: Final = Path("/sys/fs/cgroup/cgroup.controllers")
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, KeyError)
"""What reading a spec raises that no API server has looked at."""


class Host(NamedTuple):
    """What the node knows of itself; `memory` is the machine's, in bytes, `allocatable` quantities."""

    name: NodeName
    memory: int
    ips: Callable[[], Sequence[str]]
    allocatable: Callable[[], Mapping[str, str]]


class PodMaterials:
    """Implements ports.Materials. `services` are variables every container gets (KUBERNETES_SERVICE_HOST, ...) where they are known.

    Wire `changed` to the store's changes of KINDS and `connected` to the link. Blocking work is done in threads.
    """

    def __init__(
        self,
        settings: EdgedSettings,
        host: Host,
        *,
        objects: ObjectStore,
        uplink: Uplink,
        events: Events,
        cgroups: Cgroups,
        services: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self._kubelet = settings.tailored_kubelet_config
        self._host = host
        self._events = events
        self._cgroups = cgroups
        self._services = dict(services or {})
        self._folders = PodFolders(settings.root_directory, settings.pod_logs_dir)
        self._mounts = mounts or Mounts()
        clock = clock or LoopClock()
        self._queries = Queries(uplink, clock)
        self._sources = Sources(objects, self._queries)
        self._tokens = Tokens(objects, self._queries, clock)
        self._aside = Aside()
        self._remote = RemoteVolumes(self._folders, self._mounts, self._aside)
        self._volumes = Volumes(
            self._folders, self._mounts, self._sources, self._tokens, self._aside, around=lambda pod: self._around(pod, ())
        )
        self._binding = Binding(self._folders, self._mounts, cluster_domain=self._kubelet.cluster_domain)
        self._ready: dict[str, dict[str, Ready]] = {}
        self._noticed: dict[str, frozenset[str]] = {}
        self._is_unified = _UNIFIED.exists()

    async def changed(self, change: ObjectChange) -> None:
        """A config map, secret, claim or persistent volume was stored or deleted."""
        await self._sources.changed(change)

    async def connected(self) -> None:
        """The link is back: what could not be had may be asked for again."""
        self._queries.forgive()

    def uses(self, pod: Pod) -> set[ResourceKey]:
        """The stored objects whose change makes a look at the pod worth while."""
        try:
            return uses(pod)
        except _UNREADABLE:
            return set()

    async def mount(self, pod: Pod) -> None:
        with _volumes_not_ready():
            self._folders.check(pod)
            volumes = used_volumes(pod)
        await self._make_folders(pod)
        before = self._ready.get(pod.uid, {})
        results = await asyncio.gather(*(self._set_up(pod, each, before.get(str(each["name"]))) for each in volumes))
        ready = {name: volume for name, volume, _ in results if volume is not None}
        self._ready[pod.uid] = {**before, **ready}
        if problems := [problem for _, _, problem in results if problem]:
            raise VolumesNotReady("; ".join(problems))

    async def _set_up(self, pod: Pod, volume: Object, before: Ready | None) -> tuple[str, Ready | None, str]:
        """(name, what it became, what is wrong)."""
        name = str(volume["name"])
        try:
            return name, await self._volumes.set_up(pod, volume, before), ""
        except (SourceMissing, StoreError, OSError, *_UNREADABLE) as error:
            return name, None, f'MountVolume.SetUp failed for volume "{name}": {_words(error)}'

    async def _make_folders(self, pod: Pod) -> None:
        def make() -> None:
            folder = self._folders.volumes(pod.uid)
            folder.mkdir(0o750, parents=True, exist_ok=True)
            set_mode(folder.parent, 0o750)

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise VolumesNotReady(f"the pod's folder cannot be made: {_words(error)}") from error

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        with _refused("CreatePodSandboxError"):
            self._folders.check(pod)
            dns, notices = dns_of(
                pod, self._node_dns(pod), cluster_dns=self._kubelet.cluster_dns, cluster_domain=self._kubelet.cluster_domain
            )
            told = self._noticed.get(pod.uid, frozenset())
            for each in notices:
                if each.message not in told:
                    self._events.pod(pod, "Warning", each.reason, each.message)
            self._noticed[pod.uid] = told | {each.message for each in notices}
            return sandbox_of(
                pod,
                attempt,
                dns=dns,
                cluster_domain=self._kubelet.cluster_domain,
                cgroup_parent=self._cgroups.parent(pod),
                logs=self._folders.logs(pod),
            )

    def _node_dns(self, pod: Pod) -> Dns:
        """The node's resolv.conf, a file of a few lines. Behind systemd-resolved it names a server on the node's loopback, which no other
        network reaches: then it is the file with the servers behind it."""
        found = read_resolv_conf(_text_of(self._kubelet.resolv_conf))
        if not pod.host_network and found.servers and all(each.startswith("127.") or each == "::1" for each in found.servers):
            behind = read_resolv_conf(_text_of(_SYSTEMD_RESOLVED))
            return behind if behind.servers else found
        return found

    async def container_config(
        self, pod: Pod, container: Container, *, attempt: int, image: Image, pod_ips: Sequence[str], sandbox: SandboxConfig
    ) -> ContainerConfig:
        if pod.uid not in self._ready:
            try:
                await self.mount(pod)
            except VolumesNotReady as error:
                raise SpecRefused(str(error)) from error
        with _refused("CreateContainerConfigError"):
            security = security_of(pod, container, image_user=image.user, seccomp_root=self._folders.seccomp)
            resources = container_resources(pod, container, memory_capacity=self._host.memory, unified=self._is_unified)
            variables = await self._variables(pod, container, pod_ips)
            volumes = self._ready[pod.uid]
            mounted = {each.get("name") for each in container.spec.get("volumeMounts") or ()}
            await asyncio.gather(*(answers(each.path) for name, each in volumes.items() if each.is_remote and name in mounted))

            def prepare() -> tuple[list[Mount], tuple[Device, ...]]:
                (self._folders.logs(pod) / container.name).mkdir(0o755, parents=True, exist_ok=True)
                found = self._binding.mounts_of(pod, container, volumes, variables)
                own = self._binding.own_files(pod, container, attempt, taken=found, pod_ips=pod_ips, hostname=sandbox.hostname)
                return found + own, tuple(self._binding.devices_of(container, volumes))

            mounts, devices = await self._aside.call(pod.uid, f"the volumes of container {container.name}", prepare)
            spec = container.spec
            return ContainerConfig(
                name=container.name,
                attempt=attempt,
                image=image.id,
                image_name=container.image,
                log_path=f"{container.name}/{attempt}.log",
                command=tuple(expand(str(each), variables) for each in spec.get("command") or ()),
                args=tuple(expand(str(each), variables) for each in spec.get("args") or ()),
                working_dir=str(spec.get("workingDir") or ""),
                env=tuple(variables.items()),
                mounts=tuple(mounts),
                devices=devices,
                labels=container_labels(pod, container),
                annotations=container_annotations(pod, container, attempt),
                stdin=bool(spec.get("stdin")),
                stdin_once=bool(spec.get("stdinOnce")),
                tty=bool(spec.get("tty")),
                resources=resources,
                security=security,
            )

    async def _variables(self, pod: Pod, container: Container, pod_ips: Sequence[str]) -> dict[str, str]:
        wanted: dict[ResourceKey, bool] = {}
        for key, optional in environment_needs(pod, container):
            wanted[key] = optional and wanted.get(key, True)
        objects = await asyncio.gather(*(self._sources.needed(key, optional=optional) for key, optional in wanted.items()))
        held = {key: data_of(obj, key.kind) for key, obj in zip(wanted, objects, strict=True) if obj is not None}
        found = environment(pod, container, _Held(pod.namespace, held), self._around(pod, pod_ips), self._services)
        for where, names in found.skipped.items():
            self._events.pod(
                pod,
                "Warning",
                "InvalidEnvironmentVariableNames",
                f"Keys {names} from the EnvFrom {where} were skipped since they are considered invalid environment variable names.",
                container=container.name,
                is_init=container.is_init,
            )
        return found.variables

    def _around(self, pod: Pod, pod_ips: Sequence[str]) -> Surroundings:
        host_ips = self._host.ips()
        return Surroundings(pod_ips or (host_ips if pod.host_network else ()), host_ips, self._host.name, self._host.allocatable())

    async def pull_credentials(self, pod: Pod) -> Sequence[Credential]:
        found: list[Credential] = []
        for key in pull_secrets(pod):
            try:
                found += credentials_in(data_of(await self._sources.get(key), "secret"))
            except (SourceMissing, *_UNREADABLE) as error:
                message = (
                    f"Unable to retrieve image pull secret {key.namespace}/{key.name}: {_words(error)}; the image pull may not succeed."
                )
                self._events.pod(pod, "Warning", "FailedToRetrieveImagePullSecret", message)
        return found

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        return self._folders.termination_log(pod.uid, container.name, attempt)

    async def unmount(self, pod_uid: str) -> None:
        if not is_name(pod_uid):
            return
        self._noticed.pop(pod_uid, None)
        self._ready.pop(pod_uid, None)
        try:
            await self._remote.unmount(pod_uid)
            await asyncio.to_thread(clean, self._folders, self._mounts, pod_uid)  # first: on a full disk this is what makes room
            self._volumes.forget(pod_uid)
            await self._tokens.forget(pod_uid)
        except (OSError, StoreError) as error:
            raise VolumesNotReady(f"pod {pod_uid} is not cleaned up yet: {_words(error)}") from error

    async def abandon(self, pod_uid: str) -> None:
        if is_name(pod_uid):
            await self._remote.abandon(pod_uid)

    async def leftovers(self) -> Collection[str]:
        return self._tokens.uids().union(await asyncio.to_thread(self._folders.uids))


class _Held:
    """Implements rules.env.Sources over what was fetched."""

    def __init__(self, namespace: str, held: Mapping[ResourceKey, Mapping[str, bytes]]) -> None:
        self._namespace = namespace
        self._held = held

    def values(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        return self._held.get(ResourceKey(kind, self._namespace, name))


@contextlib.contextmanager
def _refused(reason: str) -> Iterator[None]:
    """Raise SpecRefused for what is wrong with a spec, or missing."""
    try:
        yield
    except (SourceMissing, LookupError, OSError, StoreError, *_UNREADABLE) as error:
        raise SpecRefused(_words(error), reason=reason) from error


@contextlib.contextmanager
def _volumes_not_ready() -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise VolumesNotReady(_words(error)) from error


def _words(error: Exception) -> str:
    """What a person can read of it."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, TypeError | AttributeError | KeyError) or not str(error):
        return f"the spec cannot be read ({type(error).__name__}: {error})"
    return str(error)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
