"""The agent is killed at random moments while pods come and go: no container is lost, doubled or restarted, and what the API says in the
end is true. A sample runs in the suite, a hundred kills in `make soak`."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.podplaces import PodPlaces
from rig.system import System, eventually

SOAK = bool(os.environ.get("PINNACE_SOAK"))
KILLS = 100 if SOAK else 10
SEED = int(os.environ.get("PINNACE_SEED", "20261128"))
STEADY = ("steady-0", "steady-1", "steady-2")
pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.slow]


def marked(places: PodPlaces) -> Counter[str]:
    """How many processes have each pod's mark: the first process of a test's container carries MARK=<pod> in its environment."""
    found: Counter[str] = Counter()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"/{places.name}/" not in (entry / "cgroup").read_text():
                continue
            words = (entry / "environ").read_bytes().split(b"\0")
            is_first = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("NSpid:")).split()[-1] == "1"
        except (OSError, IndexError):
            continue
        if is_first:
            found.update(word[5:].decode() for word in words if word.startswith(b"MARK="))
    return found


def churned(name: str) -> dict[str, Any]:
    return pods.pod(name, containers=[pods.container(env=[{"name": "MARK", "value": name}])])


async def test_killing_the_agent_during_churn_loses_doubles_and_restarts_nothing(node: tuple[System, KubeClient]) -> None:
    system, kube = node
    places = system.pods
    assert places is not None
    chance = random.Random(SEED)
    await pods.create(kube, *(churned(name) for name in STEADY))
    before = await pods.until_running(kube, system, *STEADY)

    wanted: dict[str, None] = dict.fromkeys(STEADY)
    for number in range(KILLS):
        name = f"churn-{number}"
        await pods.create(kube, churned(name))
        wanted[name] = None
        movable = [each for each in wanted if each not in STEADY and each != name]
        if movable and chance.random() < 0.7:
            gone = chance.choice(movable)
            await kube.ask("DELETE", f"{pods.PODS}/{gone}")
            del wanted[gone]
        await asyncio.sleep(chance.uniform(0.0, 0.6))  # the moment of the kill is what is drawn
        await system.edge.kill()
        await system.edge.start()

    def settled(answer: Any) -> bool:
        found = {each["metadata"]["name"]: each for each in answer["items"]}
        return set(found) == set(wanted) and all(pods.is_running(each) for each in found.values())

    answer = await eventually(lambda: kube.get(pods.PODS), settled, system, seconds=180)
    found = {each["metadata"]["name"]: each for each in answer["items"]}
    assert {name: pods.container_ids(found[name]) for name in STEADY} == {name: pods.container_ids(before[name]) for name in STEADY}
    assert {name: pods.restarts(found[name]) for name in found} == {name: {"main": 0} for name in wanted}
    assert marked(places) == Counter(wanted.keys()), f"seed {SEED}"
