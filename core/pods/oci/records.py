"""What the runtime writes down of sandboxes and containers, so that it knows them again after a restart and after a reboot."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from pinnace.core.base.runtime import Container, ContainerState, Sandbox, SandboxState

Record = TypeVar("Record", "SandboxRecord", "ContainerRecord")
UNKNOWN_EXIT: Final = 137
"""The exit code of a container whose end nobody saw, as the kubelet says it."""


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """`boot` is the boot during which its namespaces were made."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    created_at: float
    boot: str
    log_directory: str
    cgroup_parent: str = ""
    hostname: str = ""
    ips: tuple[str, ...] = ()
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    is_made: bool = False
    """False until everything of it is there: a crash in between leaves something to take down, never a sandbox."""
    is_stopped: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def shown(self, state: SandboxState) -> Sandbox:
        return Sandbox(
            id=self.id,
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            attempt=self.attempt,
            state=state,
            created_at=self.created_at,
            ips=self.ips,
            labels=self.labels,
            annotations=self.annotations,
        )


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """`log_path` is absolute; `cgroup` is its path below each hierarchy's root; `kills_all`: it has no pid namespace of its own, so its
    processes do not end with the first of them."""

    id: str
    sandbox_id: str
    pod_uid: str
    name: str
    attempt: int
    image: str
    image_name: str
    image_ref: str
    created_at: float
    log_path: str
    cgroup: str
    stop_signal: int = int(signal.SIGTERM)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    kills_all: bool = False
    volumes: tuple[str, ...] = ()
    """The image's volumes, which stay writable."""
    shared: tuple[str, ...] = ()
    """Host paths whose mounts propagate."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def shown(self, state: ContainerState, started_at: float, ended: Exit | None) -> Container:
        return Container(
            id=self.id,
            sandbox_id=self.sandbox_id,
            name=self.name,
            attempt=self.attempt,
            state=state,
            image=self.image,
            image_name=self.image_name,
            image_ref=self.image_ref,
            created_at=self.created_at,
            started_at=started_at,
            finished_at=ended.finished_at if ended else 0.0,
            exit_code=ended.exit_code if ended else 0,
            reason=ended.reason if ended else "",
            message=ended.message if ended else "",
            log_path=Path(self.log_path),
            labels=self.labels,
            annotations=self.annotations,
        )


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended; `reason` as in `base.runtime.Container`."""

    finished_at: float
    exit_code: int
    reason: str
    message: str = ""


def encoded(record: SandboxRecord | ContainerRecord) -> bytes:
    return orjson.dumps(asdict(record), option=orjson.OPT_SORT_KEYS)


def decoded(kind: type[Record], content: bytes) -> Record:
    """Keys that are not known are passed over, so that an older agent reads what a newer one wrote. Raises ValueError."""
    found = orjson.loads(content)
    if not isinstance(found, dict):
        raise ValueError("expected an object")  # noqa: TRY004  one exception for any unreadable content
    known: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in found:
            value = found[each.name]
            known[each.name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(str(error)) from error


def exit_unknown(finished_at: float, message: str) -> Exit:
    return Exit(finished_at, UNKNOWN_EXIT, "ContainerStatusUnknown", message)


def exit_encoded(ended: Exit) -> bytes:
    return orjson.dumps(asdict(ended))


def exit_decoded(content: bytes) -> Exit:
    """What a shim left behind, or `exit_encoded`. Raises ValueError."""
    found = orjson.loads(content.decode(errors="replace"))  # what crun said may be cut within a character
    if not isinstance(found, dict):
        raise ValueError("expected an object")  # noqa: TRY004  one exception for any unreadable content
    at, code = float(found.get("finished_at", 0.0)), int(found.get("exit_code", UNKNOWN_EXIT))
    if "reason" in found:
        return Exit(at, code, str(found["reason"]), str(found.get("message", "")))
    if not found.get("started", True):
        return start_failed(at, str(found.get("error", "")))
    if code != 0 and int(found.get("oom_kills", 0)) > 0:
        return Exit(at, code, "OOMKilled")
    return Exit(at, code, "Completed" if code == 0 else "Error")


def start_failed(at: float, said: str) -> Exit:
    """crun could not start a container."""
    return Exit(at, 128, "StartError", _plain(said.strip()) or "crun could not start the container")


def _plain(text: str) -> str:
    """What crun said, with what to do where that is known."""
    lower = text.lower()
    if "not found in $path" in lower or ("no such file or directory" in lower and "executable" in lower):
        return f"the program is not in the image: {text}; check command and args"
    if "permission denied" in lower and "exec" in lower:
        return f"the program cannot be executed: {text}; check its mode and the user"
    return text
