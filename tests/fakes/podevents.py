"""What pods would have been told of, kept (core/pods/ports.Events)."""

from __future__ import annotations

from typing import NamedTuple

from pinnace.core.base.pod import Pod


class Told(NamedTuple):
    """`about` is the pod's name, "" for the node."""

    about: str
    kind: str
    reason: str
    message: str
    container: str = ""


class FakeEvents:
    """Implements Events."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def pod(self, pod: Pod, kind: str, reason: str, message: str, *, container: str = "", is_init: bool = False) -> None:
        self.told.append(Told(pod.name, kind, reason, message, container))

    def node(self, kind: str, reason: str, message: str) -> None:
        self.told.append(Told("", kind, reason, message))

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.told]
