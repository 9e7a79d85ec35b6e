"""The parts of the server, wired without HTTP, on a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = Store(tmp_path)
    state = State(store)
    registry = Registry()
    views = Views(NoConversion())
    objects = Objects(state, registry, views, KindRules())
    made = Parts(store, state, registry, objects, Deletion(objects, Reading(state, views)))
    for name in ("default", "kube-node-lease"):
        await made.make("namespaces", name)
    yield made
    store.close()
