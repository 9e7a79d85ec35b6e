"""The parts of the server, wired without HTTP, on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pinnace.cloud.standalone.admission import KindRules
from pinnace.cloud.standalone.deletion import Deletion
from pinnace.cloud.standalone.kinds import Kind
from pinnace.cloud.standalone.objects import Objects
from pinnace.cloud.standalone.reading import Reading
from pinnace.cloud.standalone.registry import Registry
from pinnace.cloud.standalone.state import Object, State
from pinnace.cloud.standalone.store import Store
from pinnace.cloud.standalone.views import Views


class NoConversion:
    async def convert(self, kind: Kind, objects: Sequence[Object]) -> list[Object]:
        return list(objects)


@dataclass
class Parts:
    store: Store
    state: State
    registry: Registry
    objects: Objects
    deletion: Deletion

    def kind(self, plural: str, group: str = "") -> Kind:
        kind = self.registry.get(group, "v1", plural)
        assert kind is not None
        return kind

    async def make(self, plural: str, name: str, namespace: str = "", *, group: str = "", **rest: Any) -> Object:
        return await self.objects.create(self.kind(plural, group), {"metadata": {"name": name}, **rest}, namespace)


def wired(folder: Path) -> Parts:
    """Over what is in the folder."""
    store = Store(folder)
    state = State(store)
    registry = Registry()
    views = Views(NoConversion())
    objects = Objects(state, registry, views, KindRules())
    return Parts(store, state, registry, objects, Deletion(objects, Reading(state, views)))


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    made = wired(tmp_path)
    for name in ("default", "kube-node-lease"):
        await made.make("namespaces", name)
    yield made
    made.store.close()


@pytest.fixture
def wire() -> Callable[[Path], Parts]:
    """For tests that open a folder more than once; they close the store."""
    return wired
