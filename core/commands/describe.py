"""Tell all about one pod, one device or the node itself, as this node knows it. Works without a network; for root."""

from __future__ import annotations

import argparse
from typing import Any, Final

from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.commands.parts import control

SUMMARY = "all about one pod, one device, or this node"
IS_INTERMIXED: Final = True  # describe pod -n NAMESPACE NAME, as people type it for kubectl
_SECRETS: Final = ("password", "passwd", "passphrase", "secret", "token", "privatekey", "credential")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["pod", "device", "node"])
    parser.add_argument("name", nargs="?", default="", help="the pod's or device's name")
    control.add_namespace(parser)
    parser.add_argument("--json", action="store_true", help="the whole object as JSON")
    control.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.what != "node" and not args.name:
        raise ConfigError(f"which {args.what}? `pinnace get {args.what}s` lists them")
    path = control.socket_path(args)
    events: list[dict[str, Any]] = []
    match args.what:
        case "pod":
            found = control.find_pod(path, args.namespace, args.name)
            events = control.objects(path, f"/events/{found['metadata']['uid']}")["items"]
        case "device":
            found = _device(control.objects(path, "/devices")["items"], args.namespace, args.name)
        case _:
            found = control.objects(path, "/node")
            events = control.objects(path, "/events")["items"]
    if args.json:
        import orjson

        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return 0
    for line in (*(pod_lines(found) if args.what == "pod" else tree(found)), *event_lines(events)):
        print(control.plain(line))
    return 0


def _device(items: list[dict[str, Any]], namespace: str, name: str) -> dict[str, Any]:
    for each in items:
        metadata = each.get("metadata") or {}
        if metadata.get("name") == name and metadata.get("namespace", namespace) == namespace:
            return each
    raise PinnaceError(f"there is no device {name} in namespace {namespace} on this node; `pinnace get devices` lists them")


def pod_lines(pod: dict[str, Any]) -> list[str]:
    """A pod as `kubectl describe` tells it, without what only the cloud knows."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    lines = [
        f"Name:        {metadata['name']}",
        f"Namespace:   {metadata.get('namespace', 'default')}",
        f"Phase:       {status.get('phase', 'Pending')}" + (f" ({status['reason']})" if status.get("reason") else ""),
        f"Pod IP:      {status.get('podIP') or '-'}",
        f"Started:     {status.get('startTime') or '-'}",
    ]
    if status.get("message"):
        lines.append(f"Message:     {status['message']}")
    for title, part, told in (
        ("Init containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
    ):
        statuses = {each.get("name"): each for each in status.get(told) or ()}
        if spec.get(part):
            lines.append(f"{title}:")
        for container in spec.get(part) or ():
            lines += _container(container, statuses.get(container["name"]) or {})
    if status.get("conditions"):
        lines.append("Conditions:")
        lines += [
            f"  {each.get('type', ''):<28} {each.get('status', '')}  {each.get('reason', '')}".rstrip() for each in status["conditions"]
        ]
    return lines


def event_lines(events: list[dict[str, Any]]) -> list[str]:
    """What happened lately, as this node remembers it."""
    lines = ["Events:"] if events else []
    for each in events:
        times = f" (x{each['count']})" if each.get("count", 1) > 1 else ""
        lines.append(
            f"  {each.get('lastTimestamp') or '-'}  {each.get('type', '')} {each.get('reason', '')}: {each.get('message', '')}{times}"
        )
    return lines


def _container(container: dict[str, Any], status: dict[str, Any]) -> list[str]:
    lines = [
        f"  {container['name']}:",
        f"    Image:     {container.get('image', '')}",
        f"    State:     {_state(status.get('state') or {})}",
    ]
    if status.get("lastState"):
        lines.append(f"    Last:      {_state(status['lastState'])}")
    lines += [f"    Ready:     {bool(status.get('ready'))}", f"    Restarts:  {status.get('restartCount', 0)}"]
    if status.get("containerID"):
        lines.append(f"    ID:        {status['containerID']}")
    return lines


def _state(state: dict[str, Any]) -> str:
    for kind, facts in state.items():
        told = [str(facts[key]) for key in ("reason", "message") if facts.get(key)]
        if kind == "terminated":
            told.insert(0, f"exit code {facts.get('exitCode', 0)}")
        if kind == "running" and facts.get("startedAt"):
            told.append(f"since {facts['startedAt']}")
        return f"{kind}" + (f": {', '.join(told)}" if told else "")
    return "unknown"


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and any(each in key.lower() for each in _SECRETS)


def tree(value: Any, depth: int = 0) -> list[str]:
    """Any object as indented text, but for what is called a password or the like: `--json` has those, too."""
    indent = "  " * depth
    lines = []
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        name = f"{indent}{key}:" if isinstance(value, dict) else f"{indent}-"
        if isinstance(each, (dict, list)) and each:
            lines += [name, *tree(each, depth + 1)]
        elif _is_secret(key) and each:
            lines.append(f"{name} (not shown)")
        elif key != "managedFields":
            lines.append(f"{name} {each if each not in ({}, [], None) else '-'}")
    return lines
