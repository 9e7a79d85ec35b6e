"""List what this node has: its pods, its devices, or the node itself. Works without a network; for root.

Asks the running agent, so what is shown is what the agent knows now."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Callable
from typing import Any, Final

from pinnace.core.commands.parts import control

SUMMARY = "this node's pods, devices, or the node itself"

Row = tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["pods", "devices", "node"], help="what to list")
    parser.add_argument("--json", action="store_true", help="the whole objects as JSON")
    control.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    found = control.objects(control.socket_path(args), f"/{args.what}")
    if args.json:
        import orjson

        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return 0
    head, row = _TABLES[args.what]
    items = found["items"] if args.what != "node" else [found]
    print(table([head, *(row(each) for each in items)]))
    return 0


def table(rows: list[Row]) -> str:
    rows = [tuple(control.plain(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def pod_row(pod: dict[str, Any]) -> Row:
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    statuses = status.get("containerStatuses") or []
    ready = sum(bool(each.get("ready")) for each in statuses)
    restarts = sum(int(each.get("restartCount") or 0) for each in statuses)
    return (
        str(metadata.get("namespace", "default")), str(metadata["name"]), f"{ready}/{len(spec.get('containers') or ())}", pod_state(pod),
        str(restarts), age(metadata.get("creationTimestamp") or status.get("startTime")), str(status.get("podIP") or "-"),
    )  # fmt: skip


def pod_state(pod: dict[str, Any]) -> str:
    """One word: why it waits or ended, else its phase."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for part in ("initContainerStatuses", "containerStatuses"):
        for each in status.get(part) or ():
            state = each.get("state") or {}
            reason = (state.get("waiting") or {}).get("reason") or (state.get("terminated") or {}).get("reason")
            if reason and not (reason == "Completed" and part == "initContainerStatuses"):
                return str(reason)
    return str(status.get("reason") or status.get("phase") or "Pending")


def device_row(device: dict[str, Any]) -> Row:
    metadata, twins = device.get("metadata") or {}, device.get("twins") or {}
    values = []
    for name, twin in sorted((twins.get("twin") or {}).items()):
        wanted, said = (((twin.get(part) or {}).get("value")) for part in ("expected", "actual"))
        values.append(
            f"{name}={said if said is not None else '?'}" + (f" (desired {wanted})" if wanted is not None and wanted != said else "")
        )
    state = str(twins.get("state") or "unknown")
    return str(metadata.get("namespace") or "-"), str(metadata.get("name", "")), state, ", ".join(values) or "-"


def node_row(node: dict[str, Any]) -> Row:
    metadata, status = node["metadata"], node.get("status") or {}
    conditions = {each.get("type"): each.get("status") for each in status.get("conditions") or ()}
    kubelet = (status.get("nodeInfo") or {}).get("kubeletVersion")
    return (
        str(metadata["name"]), "Ready" if conditions.get("Ready") == "True" else "NotReady", age(metadata.get("creationTimestamp")),
        str(kubelet or "-"),
    )  # fmt: skip


def age(moment: str | None) -> str:
    """How long ago, as kubectl has it: 42s, 5m, 3h, 12d."""
    try:
        began = datetime.datetime.fromisoformat(moment or "")
    except ValueError:
        return "-"
    seconds = int((datetime.datetime.now(datetime.UTC) - began).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


_TABLES: Final[dict[str, tuple[Row, Callable[[dict[str, Any]], Row]]]] = {
    "pods": (("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP"), pod_row),
    "devices": (("NAMESPACE", "NAME", "STATE", "REPORTED"), device_row),
    "node": (("NAME", "STATUS", "AGE", "VERSION"), node_row),
}
