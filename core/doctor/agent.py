"""The agent itself: does it run, and what does it say of its own health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pinnace.core.doctor.finding import Finding, Level


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """`problems` by fact, as the agent states them; `silence` is why it could not be asked."""

    socket: str
    problems: dict[str, str] = field(default_factory=dict)
    silence: str = ""
    is_running: bool = False
    is_forbidden: bool = False


def read(socket: Path, *, is_running: bool) -> AgentFacts:
    try:
        text = asyncio.run(_ask(socket))
    except PermissionError:
        return AgentFacts(str(socket), silence="only root may ask it", is_running=is_running, is_forbidden=True)
    except (OSError, ValueError, EOFError, TimeoutError) as error:
        return AgentFacts(str(socket), silence=getattr(error, "strerror", None) or str(error) or "no answer", is_running=is_running)
    problems = {}
    for line in text.splitlines():
        if line.startswith("[-]"):
            name, _, problem = line.removeprefix("[-]").partition(" ")
            problems[name] = problem
    return AgentFacts(str(socket), problems, is_running=True)


async def _ask(path: Path) -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            return (await reader.read()).decode(errors="replace")
        finally:
            writer.close()


def check(facts: AgentFacts) -> Iterator[Finding]:
    if facts.silence and not facts.is_running:
        yield Finding("agent", Level.WARNING, "the edge does not run on this machine", "systemctl enable --now pinnace-edge")
    elif facts.silence:
        text = f"the edge runs, and cannot be asked at {facts.socket}: {facts.silence}"
        yield Finding(
            "agent",
            Level.UNKNOWN,
            text,
            "sudo pinnace doctor" if facts.is_forbidden else "pinnace doctor --config PATH  # of its edgecore.yaml",
        )
    elif facts.problems:
        for name, problem in facts.problems.items():
            yield Finding("agent", Level.ERROR, f"{name}: {problem}", "journalctl -u pinnace-edge -n 50")
    else:
        yield Finding("agent", Level.OK, "the edge runs and is well")
