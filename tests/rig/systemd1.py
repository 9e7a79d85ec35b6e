"""A systemd on a bus of the test's own that does only what slices ask for; the real one is in tests/machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pinnace.core.pods.upkeep.dbuswire import Kind, Message
from rig.login1 import Peer

PATH = "/org/freedesktop/systemd1"
NAME = "org.freedesktop.systemd1"


class Systemd:
    """`units` are the properties of those that are there, `told` the calls and the units they were about. A slice has a folder below
    `cgroups`. Jobs end at once with `result`, or, when that is "", when `end` is called."""

    def __init__(self, bus: Path, cgroups: Path) -> None:
        self.peer = Peer(bus)
        self.peer.own(NAME)
        self.units: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[str, str]] = []
        self.result = "done"
        self.asked = asyncio.Event()
        self.callers: list[str] = []
        self._cgroups = cgroups
        self._jobs = 0
        self._task = asyncio.create_task(self.peer.serve(self._answer))

    def end(self, result: str) -> None:
        """The newest job."""
        self.peer.send(removed(self._jobs, result))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.peer.close()

    def folder(self, unit: str) -> Path:
        words = unit.removesuffix(".slice").split("-")
        return self._cgroups.joinpath(*("-".join(words[: end + 1]) + ".slice" for end in range(len(words))))

    def _answer(self, call: Message) -> None:
        if call.member == "Subscribe":
            self._reply(call, "")
            return
        name, *rest = call.body
        self.told.append((call.member, name))
        match call.member:
            case "StartTransientUnit" if name in self.units:
                self._refuse(call, f"{NAME}.UnitExists")
            case "StartTransientUnit":
                self.units[name] = dict(rest[1])
                self._job(call)
            case "SetUnitProperties":
                self.units[name] |= dict(rest[1])
                self._reply(call, "")
            case "StartUnit":
                self._job(call)
            case "StopUnit" if name not in self.units:
                self._refuse(call, f"{NAME}.NoSuchUnit")
            case "StopUnit":
                del self.units[name]
                self.folder(name).rmdir()
                self._job(call)
            case other:
                raise AssertionError(other)

    def _job(self, call: Message) -> None:
        if call.member != "StopUnit":
            self.folder(call.body[0]).mkdir(parents=True, exist_ok=True)
        self._jobs += 1
        self._reply(call, "o", f"{PATH}/job/{self._jobs}")
        self.callers.append(call.sender)
        self.asked.set()
        if self.result:
            self.end(self.result)

    def _reply(self, call: Message, signature: str, *body: Any) -> None:
        self.peer.send(Message(Kind.RETURN, reply_serial=call.serial, destination=call.sender, signature=signature, body=body))

    def _refuse(self, call: Message, name: str) -> None:
        self.peer.send(Message(Kind.ERROR, error=name, reply_serial=call.serial, destination=call.sender, signature="s", body=("no",)))


def removed(job: int, result: str, *, destination: str = "") -> Message:
    """The signal that a job has ended."""
    body = (job, f"{PATH}/job/{job}", "some.slice", result)
    return Message(Kind.SIGNAL, 0, PATH, f"{NAME}.Manager", "JobRemoved", destination=destination, signature="uoss", body=body)
