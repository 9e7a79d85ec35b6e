"""Measures a frozen edge against packaging/budget.toml: `make budget`. Exit 1 when anything is beyond its limit.

Sizes are looked up, imports counted by the tree itself; for the rest the tree runs as a node of a whole system on loopback, with a broker
of its own and a pod. By default shortly: some starts, a hundred seconds of warm-up, in which the store's first snapshot is written, and
five minutes of looking, which is how often a node that nothing happens to tells its status. The figures of docs/footprint.md were taken
with --warm-up 300 --seconds 600 --runs 3.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import startup
from budget import limits
from rig import nodepods
from rig.podplaces import PodPlaces, pod_places
from rig.processes import free_port
from rig.system import ROOT, System

from pinnace.core.footprint import builds, live, picture, processes, sampling

BUDGET = ROOT / "packaging" / "budget.toml"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}.get(platform.machine(), platform.machine())
BUSY = 2.0
"""Processes that wait for a core, from which on a long start says nothing. CPU time is judged all the same."""
LEAST_SECONDS = 300.0
"""Below it what a day comes to is not extrapolated: one write more or less would be most of it."""


class OwnBroker(System):
    """The edge starts its own broker, as where it is installed."""

    def _write(self, name: str, value: Any) -> None:
        if name == "edgecore.yaml":
            value["modules"]["eventBus"] = {"mqttMode": 0, "mqttServerInternal": f"tcp://127.0.0.1:{free_port()}"}
        super()._write(name, value)


def tree_of(given: Path | None) -> Path:
    place = given or ROOT / "dist" / ARCHITECTURE / "pinnace"
    if not (place / "pinnace").is_file():
        raise SystemExit(f"no frozen tree at {place}: run `make freeze`, or name one with --tree")
    return place


def sizes(tree: Path) -> tuple[dict[str, float], dict[str, str]]:
    found = {"tree": builds.read(tree).size / 1e6}
    programs = sorted(tree.parent.glob(f"pinnace-*-{ARCHITECTURE}"))
    if not programs:
        return found, {"one-file": f"there is no {tree.parent}/pinnace-*-{ARCHITECTURE}"}
    return found | {"one-file": programs[-1].stat().st_size / 1e6}, {}


def imports(tree: Path) -> dict[str, float]:
    done = subprocess.run([tree / "pinnace", "footprint", "--imports", "--json"], capture_output=True, check=True, text=True)
    found = json.loads(done.stdout)
    return {"imports": found["modules"], "imports-heap": found["heap_bytes"] / 1e6}


async def starts(program: str, *, pods: bool, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds by part: of a node of devices, and with the built-in runtime."""
    found = {"devices": await startup.measure([program], pods=False, rounds=rounds)}
    return found | {"pods": await startup.measure([program], pods=True, rounds=rounds)} if pods else found


def of_starts(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    most = found.get("pods", found["devices"])
    return {"connected": found["devices"]["connected"]["best"], "ready": most["ready"]["best"], "start-cpu": most["cpu"]["best"]}


def built(dist: Path) -> dict[str, dict[str, Any]]:
    """What lies in dist, by architecture: bytes of both shapes, and of the tree by kind."""
    found = {}
    for tree in sorted(dist.glob("*/pinnace")):
        programs = sorted(tree.parent.glob(f"pinnace-*-{tree.parent.name}"))
        build = builds.read(tree)
        found[tree.parent.name] = {
            "one_file": programs[-1].stat().st_size if programs else None,
            "tree": build.size,
            "files": build.files,
            "kinds": build.by_kind(),
        }
    return found


def of_node(agent: int, places: PodPlaces | None) -> list[int]:
    """The agent, what it started, and what supervises the pods of these places: other nodes may run on this machine."""
    everything = processes.running()
    own = {agent}
    for each in sorted(everything, key=lambda process: process.pid):
        if each.parent in own:
            own.add(each.pid)
        elif each.group is processes.Group.SUPERVISION and places is not None:
            with contextlib.suppress(OSError):
                if str(places.folder).encode() in Path(f"/proc/{each.pid}/cmdline").read_bytes():
                    own.add(each.pid)
    return sorted(own)


async def recorded(program: str, folder: Path, places: PodPlaces | None, plan: sampling.Plan, *, pods: int) -> dict[str, Any]:
    if places is not None:
        places.offer()
    names = [f"idle-{number}" for number in range(pods)] if places is not None else []
    system = OwnBroker(folder / "s", edge_program=[program], pods=places)
    async with system.running() as kube:
        await nodepods.create(kube, *(nodepods.pod(each, containers=[nodepods.container(command=["sleep", "864000"])]) for each in names))
        await nodepods.until_running(kube, system, *names)
        return await asyncio.to_thread(
            sampling.take, plan, told=lambda words: print(words, flush=True), looked=lambda _: live.look(of_node(system.edge.pid, places))
        )


def of_record(record: dict[str, Any]) -> dict[str, float]:
    summary = record["summary"]
    agent = summary["processes"]["agent/pinnace edgecore"]
    return {
        "agent-pss": agent["pss_bytes"]["median"] / 1e6,
        "agent-heap": sum(each["median"] for part, each in agent["parts"].items() if part in ("heap", "anonymous")) / 1e6,
        "node-pss": summary["node"]["pss_bytes"]["median"] / 1e6,
        "flash-day": summary["per_idle_day"]["written_bytes"]["median"] / 1e6,
        "wire-day": summary["per_idle_day"]["wire_bytes"]["median"] / 1e6,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help=f"the frozen tree (dist/{ARCHITECTURE}/pinnace)")
    parser.add_argument("--warm-up", type=float, default=100.0, metavar="SECONDS", help="before each run (%(default)g)")
    parser.add_argument("--seconds", type=float, default=300.0, metavar="SECONDS", help="length of each run (%(default)g)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="%(default)s")
    parser.add_argument("--pods", type=int, default=1, metavar="N", help="pods of the node, which needs root (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="starts of each kind (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures, recording and a picture beside it there")
    args = parser.parse_args()
    tree = tree_of(args.tree)
    program = str(tree.resolve() / "pinnace")
    runs_pods = os.geteuid() == 0 and args.pods > 0 and (shutil.which("crun") is not None or (tree / "lib/bin/crun").exists())
    figures, missing = sizes(tree)
    figures |= imports(tree)
    took = asyncio.run(starts(program, pods=runs_pods, rounds=args.rounds))
    figures |= of_starts(took)
    with tempfile.TemporaryDirectory() as folder:
        plan = sampling.Plan(args.warm_up, args.seconds, args.runs, min(5.0, args.seconds / 15), store=Path(folder))
        if runs_pods:
            with pod_places() as places:
                record = asyncio.run(recorded(program, Path(folder), places, plan, pods=args.pods))
        else:
            record = asyncio.run(recorded(program, Path(folder), None, plan, pods=0))
    figures |= of_record(record)
    if args.seconds < LEAST_SECONDS:
        for name in ("flash-day", "wire-day"):
            missing[name] = f"a day is not to be told from {args.seconds:g} s; give --seconds {LEAST_SECONDS:g} or more"
            del figures[name]
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    for limit in limits.load(BUDGET):
        if limit.name in ("connected", "ready") and figures[limit.name] > limit.most and load > BUSY * cores:
            missing[limit.name] = (
                f"{figures.pop(limit.name):.2f} {limit.unit}, but the machine does too much else (load {load:.1f} on {cores} cores)"
            )
    verdicts = list(limits.judge(limits.load(BUDGET), figures, missing))
    for each in verdicts:
        print(each.line())
    if not runs_pods:
        print("the node had no pods, which needs root and crun; its figures are smaller for it")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "budget": limits.as_json(verdicts),
            "pods": args.pods if runs_pods else 0,
            "built": built(tree.parent.parent),
            "starts": took,
            "load_average": round(load, 1),
            "recording": record,
        }
        args.json.write_text(json.dumps(found))
        args.json.with_suffix(".svg").write_text(picture.of_record(record))
    return 0 if all(each.is_within for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
