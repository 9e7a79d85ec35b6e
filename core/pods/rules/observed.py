"""What the runtime and the probes say of one pod, in the order in which the rules ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from pinnace.core.base.runtime import CONTAINER_RESTARTS, ContainerState, Sandbox, SandboxState
from pinnace.core.base.runtime import Container as Instance


class Verdict(NamedTuple):
    """What the probes say of a running container; `startup` None: the startup probe has not decided yet."""

    startup: bool | None = True
    is_alive: bool = True
    is_ready: bool = True

    @property
    def is_started(self) -> bool:
        return self.startup is True


UNPROBED = Verdict()


@dataclass(frozen=True, slots=True)
class Observed:
    """`sandboxes` and each container's `instances` have the newest first; `verdicts` are by the id of an instance."""

    sandboxes: tuple[Sandbox, ...] = ()
    instances: Mapping[str, tuple[Instance, ...]] = field(default_factory=lambda: MappingProxyType({}))
    verdicts: Mapping[str, Verdict] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes else None

    def newest(self, name: str) -> Instance | None:
        found = self.instances.get(name)
        return found[0] if found else None

    def current(self, name: str) -> Instance | None:
        """The newest, if it belongs to the newest sandbox: only those say how far the pod has come since that one was made."""
        newest, sandbox = self.newest(name), self.sandbox
        return newest if newest is not None and sandbox is not None and newest.sandbox_id == sandbox.id else None

    def verdict(self, instance: Instance) -> Verdict:
        return self.verdicts.get(instance.id, UNPROBED)

    @property
    def all_instances(self) -> tuple[Instance, ...]:
        return tuple(each for found in self.instances.values() for each in found)

    @property
    def running(self) -> tuple[Instance, ...]:
        """Those that have processes, or may have."""
        return tuple(each for each in self.all_instances if each.state in (ContainerState.RUNNING, ContainerState.UNKNOWN))

    @property
    def has_ended(self) -> bool:
        """Nothing of the pod runs any more."""
        return not self.running and not any(each.state is SandboxState.READY for each in self.sandboxes)


def observed(sandboxes: Iterable[Sandbox], instances: Iterable[Instance], verdicts: Mapping[str, Verdict] | None = None) -> Observed:
    """Put in order what the runtime listed of one pod."""
    by_name: dict[str, list[Instance]] = {}
    for each in instances:
        by_name.setdefault(each.name, []).append(each)
    return Observed(
        tuple(sorted(sandboxes, key=lambda each: (each.attempt, each.created_at), reverse=True)),
        {name: tuple(sorted(found, key=lambda each: (each.attempt, each.created_at), reverse=True)) for name, found in by_name.items()},
        verdicts or {},
    )


def restart_count(instance: Instance) -> int:
    """How often it was started anew before: from its annotation, which outlives the agent."""
    text = instance.annotations.get(CONTAINER_RESTARTS, "")
    return int(text) if text.isdecimal() and len(text) < 10 else instance.attempt
