"""Make this machine an edge node: checks the token and the name, fetches the node's certificate and writes edgecore.yaml.

The flags are keadm's. The token comes from `pinnace gettoken` in the cloud; it is used once and not kept. With --run the edge starts
at once in the foreground, otherwise the command to start it is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pinnace.core.base.cli import command_line, program
from pinnace.core.base.contract.keys import NODE_NAME, NodeName
from pinnace.core.base.errors import ConfigError, LinkError, RefusedError
from pinnace.core.base.files import sync_folder, write_whole
from pinnace.core.base.observe import logs
from pinnace.core.base.settings.loader import load
from pinnace.core.install.machine import EDGE, Machine

SUMMARY = "make this machine an edge node"
CONFIG = Path("etc/kubeedge/config/edgecore.yaml")
"""Below the machine's root."""
BROKER = ("127.0.0.1", 1883)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-e", "--cloudcore-ipport", required=True, metavar="HOST[:PORT]", help="cloudcore's hub; port 10000 if not given")
    parser.add_argument("-s", "--certport", type=int, default=10002, metavar="PORT", help="cloudcore's bootstrap port (%(default)s)")
    parser.add_argument(
        "--tunnelport", type=int, default=10004, metavar="PORT", help="cloudcore's tunnel, for logs and the like (%(default)s)"
    )
    parser.add_argument("-t", "--token", metavar="TOKEN", help="the join token; better from PINNACE_TOKEN or --token-file than from here")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds the join token")
    parser.add_argument("-i", "--edgenode-name", default="", metavar="NAME", help="the node's name (default: this machine's)")
    parser.add_argument("-l", "--labels", default="", metavar="KEY=VALUE,...", help="the Node's labels")
    parser.add_argument(
        "-p", "--remote-runtime-endpoint", default="", metavar="URL", help="unix:///run/containerd/containerd.sock, say (default: built in)"
    )
    parser.add_argument("--cgroupdriver", choices=["cgroupfs", "systemd"], default="cgroupfs", help="%(default)s")
    parser.add_argument("--mqtt", metavar="URL", help="an MQTT broker to use (default: the one on port 1883, or one of our own)")
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="everything is kept below it (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace an edgecore.yaml and certificates that are there already")
    parser.add_argument("--run", action="store_true", help="go on as the edge, in the foreground")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="%(default)s")


def run(args: argparse.Namespace) -> int:
    logs.configure(args.log_level)
    node, config = join(args)
    for problem in _problems(config):
        print(f"note: {problem}; see --cloudcore-ipport and --tunnelport", flush=True)
    start = ["edgecore", "--config", str(config)]
    if os.geteuid() != 0:
        print("note: without root this node runs devices only, no pods", flush=True)
    if not args.run:
        line = f"systemctl start {EDGE}" if Machine(args.root).is_installed else f"{program()} {shlex.join(start)}"
        print(f"joined as {node}; start the edge with: {line}")
        return 0
    print(f"joined as {node}; running", flush=True)
    os.execv(sys.executable, command_line(*start))  # noqa: S606 - ourselves; the edge starts without what joining loaded
    return 1


def join(args: argparse.Namespace, *, machine: str = "", set_clock: Callable[[float], None] | None = None) -> tuple[str, Path]:
    """Join with these flags; the node's name and its edgecore.yaml. With `machine` (its machine-id) a cloud of ours gives the name of a
    Node that is lost to another machine, which replaces it. `set_clock` is given the cloud's time before certificates are judged. Raises
    PinnaceError."""
    config: Path = args.root / CONFIG
    if config.exists() and not args.force:
        raise RefusedError(f"{config} is there already: this machine has joined; add --force to join anew")
    node = args.edgenode_name or socket.gethostname().lower()
    if not NODE_NAME.fullmatch(node):
        which = "--edgenode-name" if args.edgenode_name else "this machine's name, for which --edgenode-name may give another"
        raise ConfigError(f"{which}: expected lower-case letters, digits, '-' and '.', not '{node}'")
    tree = configuration(args, node)
    fresh = config.with_name(config.name + ".new")
    write(fresh, tree)
    try:
        asyncio.run(_join(fresh, node, _token(args), is_new=not args.force, machine=machine, set_clock=set_clock))
        _take(fresh, config)
    except LinkError as error:
        raise LinkError(
            f"{error}; does cloudcore run there, may other machines reach it, and is {args.certport} its bootstrap port (--certport)?"
        ) from error
    finally:
        fresh.unlink(missing_ok=True)
    return node, config


def configuration(args: argparse.Namespace, node: str) -> dict[str, Any]:
    """What edgecore.yaml says, without the token."""
    target = urlsplit(f"//{args.cloudcore_ipport}")
    try:
        host, port = target.hostname, target.port or 10000
    except ValueError:
        host, port = None, 0
    if not host or target.path:
        raise ConfigError(f"--cloudcore-ipport {args.cloudcore_ipport}: expected HOST or HOST:PORT")
    host = f"[{host}]" if ":" in host else host
    labels = {}
    for text in filter(None, args.labels.split(",")):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--labels {text}: expected KEY=VALUE")
        labels[name] = value
    certs = args.root / "etc/kubeedge"
    return {
        "apiVersion": "edgecore.config.kubeedge.io/v1alpha2",
        "kind": "EdgeCore",
        "database": {"dataSource": str(args.root / "var/lib/kubeedge/edgecore.db")},
        "modules": {
            "edgeHub": {
                "httpServer": f"https://{host}:{args.certport}",
                "websocket": {"enable": True, "server": f"{host}:{port}"},
                "tlsCaFile": str(certs / "ca/rootCA.crt"),
                "tlsCertFile": str(certs / "certs/server.crt"),
                "tlsPrivateKeyFile": str(certs / "certs/server.key"),
            },
            "edged": {"hostnameOverride": node, **({"nodeLabels": labels} if labels else {}), **_pods(args, node)},
            "edgeStream": {"server": f"{host}:{args.tunnelport}"},
            "eventBus": _broker(args.mqtt, Machine(args.root).starts_broker),
        },
    }


def _problems(config: Path) -> Iterator[str]:
    """What does not answer of the cloud besides the port for joining, as doctor says it: it may start later, or a flag be wrong."""
    from pinnace.core.doctor import cloud
    from pinnace.core.doctor.finding import Level
    from pinnace.core.doctor.subject import Subject
    from pinnace.core.settings import EdgeCoreSettings

    subject = Subject(load(config, EdgeCoreSettings), config=config)
    return (each.text for each in cloud.check(cloud.read(subject)) if each.level is not Level.OK)


def _pods(args: argparse.Namespace, node: str) -> dict[str, Any]:
    """Where pods are kept: in the usual places, or below another root, in a cgroup of their own then. Without root there are none."""
    root: Path = args.root.absolute()
    socket_place = {"controlSocket": str(root / "run/pinnace/control.sock")} if root != Path("/") else {}
    if os.geteuid() != 0:
        return {"enable": False, **socket_place}
    kubelet: dict[str, Any] = {}
    if args.remote_runtime_endpoint:
        kubelet["containerRuntimeEndpoint"] = args.remote_runtime_endpoint
    if args.cgroupdriver != "cgroupfs":
        kubelet["cgroupDriver"] = args.cgroupdriver
    if root == Path("/"):
        return {"tailoredKubeletConfig": kubelet} if kubelet else {}
    return {
        "rootDirectory": str(root / "var/lib/kubelet"),
        "podLogsDir": str(root / "var/log/pods"),
        **socket_place,
        "builtinRuntime": {
            "rootDir": str(root / "var/lib/pinnace"),
            "runDir": str(root / "run/pinnace"),
            "importDir": str(root / "var/lib/pinnace/import"),
        },
        "tailoredKubeletConfig": {
            **kubelet,
            "cgroupRoot": f"/pinnace-{node}",
            "staticPodPath": str(root / "etc/kubeedge/manifests"),
            "readOnlyPort": 0,
        },
    }


def _broker(url: str | None, is_installed: bool) -> dict[str, Any]:
    """The given broker, else the one that `pinnace install` lets start or that listens on this machine, else one of our own on its port."""
    address = f"tcp://{BROKER[0]}:{BROKER[1]}"
    if url is None and is_installed:
        url = address
    if url is None:
        try:
            socket.create_connection(BROKER, timeout=1).close()
            url = address
        except OSError:
            return {"mqttMode": 0, "mqttServerInternal": address}
    return {"mqttMode": 2, "mqttServerExternal": url}


def _token(args: argparse.Namespace) -> str:
    if args.token_file is not None:
        try:
            return str(args.token_file.read_text(encoding="ascii")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--token-file {args.token_file}: cannot be read: {error}") from error
    token = args.token or os.environ.get("PINNACE_TOKEN", "")
    if not token:
        raise ConfigError("which token? give --token, --token-file or PINNACE_TOKEN; `pinnace gettoken` in the cloud prints it")
    return str(token)


def write(path: Path, tree: dict[str, Any]) -> None:
    """An edgecore.yaml, whole and on the disk or not at all. Raises ConfigError."""
    import yaml

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump(tree, sort_keys=False).encode(), is_durable=True, mode=0o644)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; run as root, or give --root") from error


def _take(fresh: Path, config: Path) -> None:
    try:
        fresh.replace(config)
        sync_folder(config.parent)
    except OSError as error:
        raise ConfigError(f"{config}: cannot be written: {error.strerror}; mend that, then join again") from error


async def _join(config: Path, node: str, token: str, *, is_new: bool, machine: str, set_clock: Callable[[float], None] | None) -> None:
    from pinnace.core.hub.certificates import Certificates
    from pinnace.core.settings import EdgeCoreSettings

    settings = load(config, EdgeCoreSettings, overrides={"modules.edgeHub.token": token})
    certificates = Certificates(settings.modules.edge_hub, NodeName(node), machine=machine)
    if set_clock is not None:
        set_clock(await certificates.time())
    if is_new and await certificates.is_name_taken():
        raise RefusedError(
            f"there is a node {node} already; choose another --edgenode-name, or delete that Node if this machine replaces it"
        )
    await certificates.join()
