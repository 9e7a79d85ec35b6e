"""Say what `pinnace up` runs on this machine: processes, ports, the node, the lamps. Exit code 0 when all of it is there, else 1."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from pinnace.core.base.cli import program
from pinnace.core.base.errors import PinnaceError, RemoteError

SUMMARY = "what `up` runs on this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from pinnace.cloud.local.places import default_folder

    parser.add_argument("--dir", type=Path, default=default_folder(), metavar="DIR", help="the folder given to `up` (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    found = report(args.dir)
    if args.json:
        import orjson

        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    else:
        for line in lines(found):
            print(line)
    return 0 if found["state"] == "running" else 1


def report(folder: Path) -> dict[str, Any]:
    """`state` is running, broken (something has ended) or stopped; `processes`, `facts`, `node` and `lamps` as far as they are known."""
    from pinnace.cloud.local import record as records
    from pinnace.cloud.local.places import Places

    record = records.read(Places(folder.absolute()).record)
    if record is None or not record.alive:
        return {"state": "stopped", "dir": str(folder.absolute()), "processes": []}
    every = [record.owner, *record.children]
    processes = [{"name": each.name, "pid": each.pid, "running": each.is_alive, "log": each.log} for each in every]
    found: dict[str, Any] = {
        "state": "running" if len(record.alive) == len(every) else "broken",
        "dir": str(folder.absolute()),
        "processes": processes,
        **record.facts,
    }
    try:
        found |= asyncio.run(_from_api(record.facts))
    except (PinnaceError, TimeoutError) as error:
        found |= {"problem": f"the Kubernetes API does not answer: {error}"}
    return found


async def _from_api(facts: dict[str, Any]) -> dict[str, Any]:
    from pinnace.cloud.kube.access import load_access
    from pinnace.cloud.kube.api import HttpKubeApi
    from pinnace.cloud.kube.resources import DEVICES, NODES
    from pinnace.cloud.local.stack import is_ready
    from pinnace.cloud.local.watchers import desired_of, reported_of

    namespace, _, name = str(facts.get("device", "")).partition("/")
    found: dict[str, Any] = {}
    async with asyncio.timeout(5), HttpKubeApi(await load_access(kubeconfig=Path(facts["kubeconfig"])), user_agent="pinnace-status") as api:
        try:
            found["ready"] = is_ready(await api.get(NODES, str(facts["node"])))
            device = await api.get(DEVICES, name, namespace)
        except RemoteError as error:
            return {**found, "problem": str(error)}
    reported = reported_of(device)
    return {**found, "lamps": {lamp: {"desired": value, "reported": reported.get(lamp)} for lamp, value in desired_of(device).items()}}


def lines(found: dict[str, Any]) -> list[str]:
    if found["state"] == "stopped":
        return [f"nothing runs ({found['dir']}); start it with `{program()} up`"]
    out = [f"{found['state']}, {found['dir']}"]
    for each in found["processes"]:
        state = f"process {each['pid']}" if each["running"] else f"HAS ENDED, see its log {each['log']}"
        out.append(f"  {each['name']:<10} {state}")
    out.append(f"logs in {found['dir']}/logs")
    out.append("ports: " + ", ".join(f"{name} {port}" for name, port in found.get("ports", {}).items()))
    out.append(f"export KUBECONFIG={found.get('kubeconfig')}")
    if "ready" in found:
        out.append(f"node {found['node']}: {'Ready' if found['ready'] else 'not Ready'}")
    out += [
        f"  {lamp:<10} desired {each['desired']}, reported {each['reported'] or 'nothing yet'}"
        for lamp, each in found.get("lamps", {}).items()
    ]
    if "problem" in found:
        out.append(f"problem: {found['problem']}")
    return out
