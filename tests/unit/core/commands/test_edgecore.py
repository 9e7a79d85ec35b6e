"""`pinnace edgecore` on an appliance's root that is on trial."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pinnace.core import agent
from pinnace.core.appliance import slots
from pinnace.core.appliance.slots import Slots
from pinnace.core.commands import edgecore
from pinnace.core.settings import EdgeCoreSettings


@pytest.mark.parametrize("on_trial", [True, False])
async def test_a_root_on_trial_tells_the_store_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_trial: bool) -> None:
    told: list[bool] = []

    @contextlib.asynccontextmanager
    async def running(settings: EdgeCoreSettings, *, on_trial: bool = False) -> AsyncIterator[None]:
        told.append(on_trial)
        yield

    if on_trial:
        (tmp_path / "slot").write_text("b\n")
        (tmp_path / "trial").write_text("b 2\n")
    monkeypatch.setattr(agent, "running", running)
    monkeypatch.setattr(slots, "Slots", lambda: Slots(tmp_path, tmp_path))
    (tmp_path / "edgecore.yaml").touch()
    async with edgecore._serving(tmp_path / "edgecore.yaml") as lines:
        assert lines[0].startswith("ready: node ")
    assert told == [on_trial]
