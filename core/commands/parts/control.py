"""What `get`, `logs`, `exec` and `describe` share: the way to the agent of this machine, through a socket that only root can open."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from pinnace.core.base.errors import ConfigError, LinkError, PinnaceError, RefusedError

DEFAULT_SOCKET: Final = Path("/run/pinnace/control.sock")
CONFIG: Final = Path("/etc/kubeedge/config/edgecore.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="PATH", help="edgecore.yaml, which says where the socket is")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="the agent's control socket (default: what the configuration says)")


def add_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default="default", help="the pod's namespace (%(default)s)")


def socket_path(args: argparse.Namespace) -> Path:
    if args.socket is not None:
        return Path(args.socket)
    if not args.config.exists():
        return DEFAULT_SOCKET
    from pinnace.core.base.settings.loader import load
    from pinnace.core.settings import EdgeCoreSettings

    try:
        return load(args.config, EdgeCoreSettings).modules.edged.control_socket
    except ConfigError as error:
        raise ConfigError(f"{error}; or name the agent's socket with --socket") from error


def target(*parts: str, **arguments: str) -> str:
    """A path with its query; empty arguments are left out."""
    query = urlencode({name: value for name, value in arguments.items() if value})
    return "/" + "/".join(quote(part, safe="") for part in parts) + (f"?{query}" if query else "")


async def opened(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the agent. Raises RefusedError, LinkError with what to do."""
    try:
        return await asyncio.open_unix_connection(str(path))
    except PermissionError as error:
        raise RefusedError(f"{path}: only root may ask the agent; use sudo") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        hint = "" if os.geteuid() == 0 else " (or you are not root: use sudo)"
        raise LinkError(f"{path}: no agent answers there{hint}; start it with `pinnace edgecore`, or give its --config") from error
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror or error}") from error


async def ask(path: Path, wanted: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
    """GET; the status, and the body behind it, which ends with the connection."""
    reader, writer = await opened(path)
    writer.write(f"GET {wanted} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), reader, writer
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError, IndexError) as error:
        writer.close()
        hint = "it takes orders from root only: use sudo" if os.geteuid() != 0 else "its log says why"
        raise LinkError(f"{path}: the agent closed the connection; {hint}") from error
    except asyncio.CancelledError:
        writer.close()
        raise


async def whole(path: Path, wanted: str) -> bytes:
    """The body of a good answer. Raises PinnaceError with the agent's words."""
    status, reader, writer = await ask(path, wanted)
    try:
        body = await reader.read()
    finally:
        writer.close()
    if status != 200:
        raise PinnaceError(body.decode(errors="replace").strip() or f"the agent answered {status}")
    return body


def objects(path: Path, wanted: str) -> Any:
    """A JSON answer, decoded."""
    import orjson

    return orjson.loads(asyncio.run(whole(path, wanted)))


def find_pod(path: Path, namespace: str, name: str) -> dict[str, Any]:
    """Raises PinnaceError."""
    for pod in objects(path, "/pods")["items"]:
        metadata = pod["metadata"]
        if (metadata.get("namespace", "default"), metadata["name"]) == (namespace, name):
            return dict(pod)
    raise PinnaceError(f"there is no pod {name} in namespace {namespace} on this node; `pinnace get pods` lists them")


def plain(text: object) -> str:
    """One line that a terminal may show: containers and devices wrote parts of it, and what would command the terminal is spelled out."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text).rstrip())


def container_of(pod: dict[str, Any], wanted: str) -> str:
    """The container a command is about. Raises ConfigError."""
    spec = pod.get("spec") or {}
    names = [each["name"] for part in ("containers", "initContainers") for each in spec.get(part) or ()]
    if wanted and wanted not in names:
        raise ConfigError(f"-c {wanted}: pod {pod['metadata']['name']} has the containers {', '.join(names)}")
    return wanted or str(spec["containers"][0]["name"])
