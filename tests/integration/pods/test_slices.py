"""systemd is told of the pods' limits over a real message bus: what it is asked, and what becomes of pods when it does not answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rig.login1 import Peer
from rig.systemd1 import Systemd, removed

from pinnace.core.base.pod import Pod
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.ports import SpecRefused
from pinnace.core.pods.rules.slices import UNLIMITED
from pinnace.core.pods.upkeep.cgroups import PodCgroups
from pinnace.core.pods.upkeep.hierarchies import Hierarchies
from pinnace.core.pods.upkeep.slices import Slices

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")

TIERS = ("kubepods.slice", "kubepods-burstable.slice", "kubepods-besteffort.slice")
WEB = "kubepods-burstable-podweb_1.slice"


def pod(uid: str = "web-1", *, cpu: str = "500m", **limits: str) -> Pod:
    resources = {"requests": {"cpu": cpu}, "limits": limits}
    return Pod({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where cgroup v2 would be; only folders."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    return tmp_path


@pytest.fixture
async def systemd(bus: Path, root: Path) -> AsyncIterator[Systemd]:
    made = Systemd(bus, root)
    yield made
    await made.close()


def cgroups(bus: Path, root: Path, **settings: Any) -> PodCgroups:
    kubelet = KubeletSettings(cgroup_driver="systemd", **settings)
    return PodCgroups(kubelet, room={"cpu": 2000, "memory": 1 << 30}, hierarchies=Hierarchies(root), slices=Slices(bus))


def limits(unit: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(unit[each] for each in ("CPUWeight", "CPUQuotaPerSecUSec", "MemoryMax", "TasksMax"))


async def test_systemd_is_told_of_tiers_and_pods(bus: Path, root: Path, systemd: Systemd) -> None:
    await cgroups(bus, root, pod_pids_limit=50).ensure(pod(cpu="1", memory="64Mi"))
    assert systemd.told == [("StartTransientUnit", each) for each in (*TIERS, WEB)]
    assert systemd.units[WEB]["DefaultDependencies"] is False
    assert limits(systemd.units[WEB]) == (39, UNLIMITED, 64 << 20, 50)
    every, burstable, best_effort = (limits(systemd.units[each]) for each in TIERS)
    assert every == (79, UNLIMITED, 1 << 30, UNLIMITED)
    assert burstable == (39, UNLIMITED, UNLIMITED, UNLIMITED)
    assert best_effort == (1, UNLIMITED, UNLIMITED, UNLIMITED)


async def test_only_what_changes_is_told(bus: Path, root: Path, systemd: Systemd) -> None:
    made = cgroups(bus, root)
    await made.ensure(pod())
    systemd.told.clear()
    await made.ensure(pod())
    assert not systemd.told
    await made.ensure(pod(memory="32Mi"))
    assert systemd.told == [("StartTransientUnit", WEB), ("SetUnitProperties", WEB), ("StartUnit", WEB)]
    assert limits(systemd.units[WEB]) == (20, UNLIMITED, 32 << 20, UNLIMITED)
    await made.ensure(pod("other"))
    assert limits(systemd.units["kubepods-burstable.slice"])[0] == 39  # as much as both


async def test_another_agent_takes_over_what_is_there(bus: Path, root: Path, systemd: Systemd) -> None:
    await cgroups(bus, root).ensure(pod())
    systemd.told.clear()
    after = cgroups(bus, root)
    await after.ensure(pod(memory="16Mi"))
    assert limits(systemd.units[WEB])[2] == 16 << 20
    assert [each for each, name in systemd.told if name == WEB] == ["StartTransientUnit", "SetUnitProperties", "StartUnit"]
    assert set(after.leftovers()) == {"web-1"}


async def test_a_slice_goes_with_its_pod(bus: Path, root: Path, systemd: Systemd) -> None:
    made = cgroups(bus, root)
    for each in (pod(), pod("other")):
        await made.ensure(each)
    await made.remove("web-1")
    assert WEB not in systemd.units
    assert set(made.leftovers()) == {"other"}
    assert limits(systemd.units["kubepods-burstable.slice"])[0] == 20
    systemd.told.clear()
    await made.remove("web-1")
    assert not systemd.told
    await made.remove("other")
    await made.dissolve()
    assert not systemd.units
    assert not (root / "kubepods.slice").exists()


async def test_a_slice_that_systemd_does_not_know_is_removed_all_the_same(bus: Path, root: Path, systemd: Systemd) -> None:
    (systemd.folder(WEB)).mkdir(parents=True)
    made = cgroups(bus, root)
    assert set(made.leftovers()) == {"web-1"}
    await made.remove("web-1")
    assert systemd.told == [("StopUnit", WEB)]
    assert not made.leftovers()


async def test_without_a_bus_the_pod_says_why_and_nothing_is_forgotten(bus: Path, root: Path, systemd: Systemd) -> None:
    made = cgroups(bus, root)
    await made.ensure(pod())
    away = bus.with_name("away")
    bus.rename(away)
    with pytest.raises(
        SpecRefused, match=rf"message bus at {bus} cannot be reached: No such file.*choose cgroupDriver cgroupfs"
    ) as refused:
        await made.ensure(pod("other"))
    assert refused.value.reason == "FailedCreatePodContainer"
    await made.ensure(pod())  # what is held needs nobody
    await made.remove("web-1")
    assert set(made.leftovers()) == {"web-1"}
    away.rename(bus)
    await made.ensure(pod("other"))
    await made.remove("web-1")
    assert set(made.leftovers()) == {"other"}


async def test_a_job_that_comes_to_nothing_is_the_pod_s_trouble(bus: Path, root: Path, systemd: Systemd) -> None:
    systemd.result = "failed"
    made = cgroups(bus, root)
    with pytest.raises(SpecRefused, match=r"kubepods\.slice: systemd's job came to nothing: failed"):
        await made.ensure(pod())
    systemd.result = "done"
    await made.ensure(pod())
    assert limits(systemd.units[WEB])[0] == 20


async def test_only_systemd_says_that_a_job_has_ended(bus: Path, root: Path, systemd: Systemd) -> None:
    systemd.result = ""
    making = asyncio.create_task(cgroups(bus, root).ensure(pod()))
    async with asyncio.timeout(20):
        await systemd.asked.wait()
    stranger = Peer(bus)
    stranger.send(removed(1, "done", destination=systemd.callers[0]))
    stranger.close()
    systemd.end("canceled")
    with pytest.raises(SpecRefused, match="canceled"):
        await making
