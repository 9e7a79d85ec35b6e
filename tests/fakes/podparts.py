"""The parts of the pods around a worker, in memory: materials, probes, hooks, cgroups (core/pods/ports.py)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import (
    CONTAINER_HASH,
    CONTAINER_RESTARTS,
    POD_GRACE,
    POD_NAME_LABEL,
    POD_NAMESPACE_LABEL,
    POD_UID_LABEL,
    ContainerConfig,
    Credential,
    Image,
    Namespaces,
    SandboxConfig,
)
from pinnace.core.pods.ports import HookFailed, ProbeKind, ProbeResult, SpecRefused, VolumesNotReady


class FakeMaterials:
    """Implements Materials. `missing` volumes and `refused` containers (by name) fail as told."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.mounted: list[str] = []
        self.abandoned: list[str] = []
        self.left: set[str] = set()
        self.missing = ""
        self.refused: dict[str, SpecRefused] = {}
        self.busy = 0

    async def mount(self, pod: Pod) -> None:
        if self.missing:
            raise VolumesNotReady(self.missing)
        self.mounted.append(pod.name)
        self.left.add(pod.uid)

    def sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        return SandboxConfig(
            pod.name, pod.namespace, pod.uid, attempt, pod.name, self.logs / f"{pod.namespace}_{pod.name}_{pod.uid}",
            labels={POD_NAME_LABEL: pod.name, POD_NAMESPACE_LABEL: pod.namespace, POD_UID_LABEL: pod.uid},
            namespaces=Namespaces(host_network=pod.host_network),
        )  # fmt: skip

    async def container_config(
        self, pod: Pod, container: Container, *, attempt: int, image: Image, pod_ips: Sequence[str], sandbox: SandboxConfig
    ) -> ContainerConfig:
        if container.name in self.refused:
            raise self.refused[container.name]
        return ContainerConfig(
            container.name, attempt, image.id, container.image, f"{container.name}/{attempt}.log",
            labels={POD_NAME_LABEL: pod.name, POD_NAMESPACE_LABEL: pod.namespace},
            annotations={
                CONTAINER_HASH: container.hash,
                CONTAINER_RESTARTS: str(attempt),
                POD_GRACE: str(pod.spec.get("terminationGracePeriodSeconds", 30)),
            },
        )  # fmt: skip

    async def pull_credentials(self, pod: Pod) -> Sequence[Credential]:
        return ()

    def uses(self, pod: Pod) -> Collection[ResourceKey]:
        named = [volume["configMap"]["name"] for volume in pod.spec.get("volumes") or () if "configMap" in volume]
        return {ResourceKey("configmap", pod.namespace, name) for name in named}

    def termination_log(self, pod: Pod, container: Container, attempt: int) -> Path:
        return self.logs / pod.uid / container.name / f"{attempt}.message"

    async def abandon(self, pod_uid: str) -> None:
        self.abandoned.append(pod_uid)

    async def unmount(self, pod_uid: str) -> None:
        if self.busy:
            self.busy -= 1
            raise VolumesNotReady("a volume is busy")
        self.left.discard(pod_uid)

    async def leftovers(self) -> Collection[str]:
        return set(self.left)


class FakeProber:
    """Implements Prober. `verdicts` by (container id, kind); containers without one have no probe."""

    def __init__(self) -> None:
        self.watched: dict[str, bool] = {}
        """`is_restart` of what is watched."""
        self.started_at: dict[str, float] = {}
        """When the runtime says that what was ever watched started."""
        self.verdicts: dict[tuple[str, ProbeKind], ProbeResult] = {}
        self._listeners: list[Callable[[str], None]] = []

    def watch(
        self, pod: Pod, container: Container, container_id: str, pod_ip: str, *, is_restart: bool = False, started_at: float = 0.0
    ) -> None:
        self.watched.setdefault(container_id, is_restart)
        self.started_at.setdefault(container_id, started_at)

    def forget(self, container_id: str) -> None:
        self.watched.pop(container_id, None)

    def result(self, container_id: str, kind: ProbeKind) -> ProbeResult:
        return self.verdicts.get((container_id, kind), ProbeResult.SUCCESS)

    def on_change(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def say(self, pod_uid: str, container_id: str, kind: ProbeKind, result: ProbeResult) -> None:
        self.verdicts[container_id, kind] = result
        for listener in self._listeners:
            listener(pod_uid)


class FakeHooks:
    """Implements Hooks. `failing` are commands (first word) that fail."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, float]] = []
        """(container, first word, time-out)."""
        self.failing: set[str] = set()

    async def run(self, pod: Pod, container: Container, handler: Object, container_id: str, pod_ip: str, *, timeout_seconds: float) -> None:
        word = handler["exec"]["command"][0]
        self.ran.append((container.name, word, timeout_seconds))
        if word in self.failing:
            raise HookFailed(f"{word} failed")


class FakeCgroups:
    """Implements Cgroups."""

    def __init__(self) -> None:
        self.made: set[str] = set()

    def parent(self, pod: Pod) -> str:
        return f"/kubepods/pod{pod.uid}"

    async def ensure(self, pod: Pod) -> None:
        self.made.add(pod.uid)

    async def remove(self, pod_uid: str) -> None:
        self.made.discard(pod_uid)

    def leftovers(self) -> Collection[str]:
        return set(self.made)

    def working_set(self, pod_uid: str) -> int:
        return 0
