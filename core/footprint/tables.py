"""Footprints for people: plain text, sizes in MB (10^6 bytes), KB (10^3 bytes)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pinnace.core.footprint.live import Look, Use
from pinnace.core.footprint.mappings import Part, Sizes
from pinnace.core.footprint.processes import OWN, Group

_DETAILED = (Part.EXTENSIONS, Part.HOT_PATHS, Part.TLS, Part.LIBRARIES, Part.FILES, Part.SHARED)


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}"


def kilobytes(size: float) -> str:
    return f"{size / 1e3:.1f}"


def aligned(rows: Sequence[Sequence[str]], *, left: Iterable[int] = ()) -> Iterator[str]:
    """Columns as wide as they need; numbers to the right, those of `left` and the last to the left."""
    to_left = {*left, len(rows[0]) - 1} if rows else set()
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [
            cell.ljust(width) if at in to_left else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def live(found: Look, agent: Mapping[str, Any] | None, *, parts: bool) -> Iterator[str]:
    """The processes, their sum, what is in the pods; then what the agent keeps; with `parts` each process by part and module."""
    names = {each["uid"]: each["name"] for each in (agent or {}).get("pods", ())}
    own = [each for each in found.uses if each.process.group is not Group.PODS]
    rows: list[Sequence[str]] = [("PID", "PSS MB", "RSS MB", "USS MB", "GROUP", "PROCESS")]
    rows += [(str(each.process.pid), *_row(each.sizes), str(each.process.group), each.process.name) for each in own]
    rows.append(("sum", *_row(sum((each.sizes for each in own), Sizes())), "", ""))
    yield from aligned(rows, left=[4])
    apart = {str(group): megabytes(sizes.pss) for group, sizes in found.groups().items() if group in OWN}
    if len(apart) > 1:
        yield f"the node: {megabytes(found.pss())} MB PSS ({', '.join(f'{name} {size}' for name, size in apart.items())})"
    if pods := found.pods():
        yield ""
        rows = [("", "PSS MB", "RSS MB", "USS MB", "POD")]
        rows += [("", *_row(sizes), names.get(pod, pod)) for pod, sizes in pods.items()]
        yield from aligned(rows)
    if found.wire:
        yield ""
        rows = [("SENT KB", "RECEIVED KB", "ON THE WIRE KB", "CONNECTION TO")]
        rows += [
            (kilobytes(each.sent), kilobytes(each.received), kilobytes(each.wire), f"{each.peer[0]}:{each.peer[1]}")
            for each in found.wire.values()
        ]
        yield from aligned(rows)
    if agent is not None:
        yield ""
        yield from kept(agent)
    for each in found.uses if parts else ():
        if each.process.group is not Group.PODS:
            yield ""
            yield from by_parts(each)


def _row(sizes: Sizes) -> tuple[str, str, str]:
    return megabytes(sizes.pss), megabytes(sizes.rss), megabytes(sizes.uss)


def by_parts(use: Use) -> Iterator[str]:
    yield f"{use.process.name}, pid {use.process.pid}: {megabytes(use.sizes.file)} of {megabytes(use.sizes.pss)} MB PSS are page cache"
    rows = [("PSS KB", "USS KB", "RSS KB", "PART")]
    for part, sizes in use.parts.items():
        if sizes.rss < 1000:
            continue
        rows.append((kilobytes(sizes.pss), kilobytes(sizes.uss), kilobytes(sizes.rss), str(part)))
        if part in _DETAILED:
            inside = [each for each in use.mapped if each.part is part][:12]
            rows += [
                (kilobytes(each.sizes.pss), kilobytes(each.sizes.uss), kilobytes(each.sizes.rss), f"  {each.name}")
                for each in inside
                if each.sizes.rss
            ]
    yield from aligned(rows)


def kept(agent: Mapping[str, Any]) -> Iterator[str]:
    """What the agent holds (usage.py)."""
    cache, link = agent["cache"], agent["link"]
    yield (
        f"the agent keeps {cache['objects']} objects, {kilobytes(cache['bytes'])} of at most {kilobytes(cache['limit_bytes'])} KB: "
        + (", ".join(f"{each['objects']} {kind} ({kilobytes(each['bytes'])})" for kind, each in cache["kinds"].items()) or "none")
    )
    waiting = [f"{each['rows']} {name} ({kilobytes(each['bytes'])} KB)" for name, each in agent["outbox"].items() if each["rows"]]
    dropped = sum(each["dropped"] for each in agent["outbox"].values())
    yield (
        f"waiting: for the cloud {', '.join(waiting) or 'nothing'}{f', {dropped} dropped' if dropped else ''}; for the disk "
        f"{agent['rows_waiting']} rows; from MQTT {agent['inbox']['messages']}; link "
        f"{'connected' if link['connected'] else 'down'}, {link['waiting']} to write, {link['unhandled']} to handle"
    )
    yield f"running: {agent['tasks']} tasks, {agent['threads']} threads; {agent['garbage']['frozen']} objects frozen"
    if agent["pods"]:
        rows: list[Sequence[str]] = [("OBJECT KB", "CONTAINERS", "EVENTS", "POD")]
        rows += [(kilobytes(each["object_bytes"]), str(each["containers"]), str(each["events"]), each["name"]) for each in agent["pods"]]
        yield from aligned(rows)
    if agent["devices"]:
        rows = [("OBJECT KB", "TWINS", "TWINS KB", "WAITING", "DEVICE")]
        rows += [
            (kilobytes(each["object_bytes"]), str(each["twins"]), kilobytes(each["bytes"]), str(each["waiting"]), each["name"])
            for each in agent["devices"]
        ]
        yield from aligned(rows)
    if heap := agent.get("heap"):
        yield ""
        yield from traced(heap)


def traced(heap: Mapping[str, Any]) -> Iterator[str]:
    """Of a build that traces allocations (observe/allocations.py)."""
    yield (
        f"Python's heap: {megabytes(heap['traced_bytes'])} MB traced, {megabytes(heap['traced_peak_bytes'])} at its peak; "
        f"tracing itself costs {megabytes(heap['tracing_costs_bytes'])} MB"
    )
    if each := heap["malloc"]:
        held, used, free = (megabytes(each[f"{state}_bytes"]) for state in ("held", "used", "free"))
        yield f"the C library's heap, tracing included: {held} MB held, {used} used, {free} free; {heap['blocks']} small blocks of Python"
    yield f"SQLite: {kilobytes(heap['sqlite_bytes'])} KB"
    rows = [("KB", "BLOCKS", "PACKAGE")]
    rows += [(kilobytes(each["bytes"]), str(each["blocks"]), each["package"]) for each in heap["packages"][:30]]
    yield from aligned(rows)


def recorded(record: Mapping[str, Any]) -> Iterator[str]:
    """Of `sampling.take`: median, p95 and max over the runs, then what an idle day would come to."""
    summary = record["summary"]
    rows: list[Sequence[str]] = [("PSS MB", "P95", "MAX", "NUMBER", "WHAT")]
    node = summary["node"]["pss_bytes"]
    rows.append((*(megabytes(node[each]) for each in ("median", "p95", "max")), "", "the node"))
    for name, process in summary["processes"].items():
        sizes = process["pss_bytes"]
        rows.append((*(megabytes(sizes[each]) for each in ("median", "p95", "max")), f"{process['count']['median']:g}", name))
        rows += [
            (*(megabytes(each[measure]) for measure in ("median", "p95", "max")), "", f"  {part}")
            for part, each in process["parts"].items()
            if each["max"] >= 50_000
        ]
    yield from aligned(rows)
    days = summary["per_idle_day"]
    for name, words in (
        ("written_bytes", "written by the node's processes"),
        ("device_written_bytes", f"written to {record['device']}, by everything on this machine"),
        ("wire_bytes", "on the wire, both ways, headers and acknowledgements included"),
    ):
        if days[name] is not None:
            yield f"a day like this: {megabytes(days[name]['median'])} MB {words} (at most {megabytes(days[name]['max'])})"
    yield f"CPU: {summary['cpu_percent']['median']:.2f} % of a core (at most {summary['cpu_percent']['max']:.2f})"
