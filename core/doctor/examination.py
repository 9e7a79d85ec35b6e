"""All matters in the order in which they are looked at and told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pinnace.core.base.errors import PinnaceError
from pinnace.core.doctor import agent, board, certificates, clock, cloud, kernel, ports, runtime, storage
from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject

MATTERS: Final[dict[str, Callable[[Subject], Iterable[Finding]]]] = {
    "kernel": lambda subject: kernel.check(kernel.read(subject)),
    "clock": lambda subject: clock.check(clock.read(subject)),
    "board": lambda subject: board.check(board.read(subject)),
    "storage": lambda subject: storage.check(storage.read(subject)),
    "ports": lambda subject: ports.check(ports.read(subject)),
    "runtime": lambda subject: runtime.check(runtime.read(subject, is_root=os.geteuid() == 0)),
    "certificate": lambda subject: certificates.check(certificates.read(subject)),
    "cloud": lambda subject: cloud.check(cloud.read(subject)),
    "agent": lambda subject: agent.check(_agent(subject)),
}


def _agent(subject: Subject) -> agent.AgentFacts:
    return agent.read(subject.path(subject.settings.modules.edged.control_socket), is_running=ports.read(subject).is_agent_running)


def examine(subject: Subject, matters: Iterable[str] = MATTERS) -> Iterator[Finding]:
    """One matter after the other; what cannot be looked at is told as that."""
    for name in matters:
        try:
            yield from MATTERS[name](subject)
        except PermissionError:
            yield Finding(name, Level.UNKNOWN, "only root may look at it", "sudo pinnace doctor")
        except (OSError, ValueError, PinnaceError) as error:
            yield Finding(name, Level.UNKNOWN, f"could not be looked at: {error}")
