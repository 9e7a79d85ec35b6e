"""What is thrown away, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from fakes.clock import FakeClock
from fakes.podcontrol import FakePodControl
from fakes.podevents import FakeEvents

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import (
    POD_UID_LABEL,
    Container,
    ContainerState,
    DiskUsage,
    Image,
    Runtime,
    RuntimeFailed,
    Sandbox,
    SandboxState,
)
from pinnace.core.base.settings.edged import KubeletSettings
from pinnace.core.pods.upkeep.collecting import ContainerCollector, ImageCollector

GIB = 1 << 30


class Shelf:
    """A runtime's containers, sandboxes and images; `stuck` ones cannot be removed."""

    def __init__(self) -> None:
        self.shelved: dict[str, Container] = {}
        self.boxes: dict[str, Sandbox] = {}
        self.pictures: dict[str, Image] = {}
        self.stuck: set[str] = set()
        self.available = 50 * GIB
        self.images = self

    def container(
        self, id: str, uid: str, name: str, attempt: int, state: ContainerState, *, log_path: Path = Path(), image: str = ""
    ) -> None:
        labels = {POD_UID_LABEL: uid} if uid else {}
        self.shelved[id] = Container(
            id, f"box-{uid}", name, attempt, state, image, "", "", created_at=float(attempt), log_path=log_path, labels=labels
        )

    def sandbox(self, id: str, uid: str, attempt: int, state: SandboxState) -> None:
        self.boxes[id] = Sandbox(id, uid, "default", uid, attempt, state, 1.0)

    def image(self, name: str, *, pinned: bool = False) -> None:
        self.pictures[f"id-{name}"] = Image(f"id-{name}", (name,), (), 10 * GIB, is_pinned=pinned)

    async def containers(self, pod_uid: str = "") -> Sequence[Container]:
        return list(self.shelved.values())

    async def sandboxes(self, pod_uid: str = "") -> Sequence[Sandbox]:
        return list(self.boxes.values())

    async def remove_container(self, container_id: str) -> None:
        if container_id in self.stuck:
            raise RuntimeFailed("busy")
        del self.shelved[container_id]

    async def remove_sandbox(self, sandbox_id: str) -> None:
        del self.boxes[sandbox_id]

    async def disk(self) -> DiskUsage:
        return DiskUsage(Path("/images"), 0, 100 * GIB, self.available, 0, 0)

    async def remove(self, image_id: str) -> None:
        if image_id in self.stuck:
            raise RuntimeFailed("in use")
        self.available += self.pictures.pop(image_id).size


class ShelfImages:
    """The same shelf, asked for images."""

    def __init__(self, shelf: Shelf) -> None:
        self.disk, self.remove, self._shelf = shelf.disk, shelf.remove, shelf

    async def images(self) -> Sequence[Image]:
        return list(self._shelf.pictures.values())

    async def image(self, reference: str) -> Image | None:
        return self._shelf.pictures.get(f"id-{reference}")


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf()
    made.images = ShelfImages(made)  # type: ignore[assignment]
    return made


def pod(uid: str, image: str = "app") -> Pod:
    return Pod({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": [{"name": "c", "image": image}]}})


EXITED, RUNNING, CREATED = ContainerState.EXITED, ContainerState.RUNNING, ContainerState.CREATED


async def test_one_dead_container_of_each_name_is_kept(shelf: Shelf, tmp_path: Path) -> None:
    logs = {number: tmp_path / "default_a_a" / "c" / f"{number}.log" for number in range(4)}
    logs[0].parent.mkdir(parents=True)
    for number, path in logs.items():
        path.write_text("x")
        path.with_name(f"{path.name}.20260101-000000.gz").write_text("x")
        shelf.container(f"c{number}", "a", "c", number, RUNNING if number == 3 else EXITED, log_path=path)
    shelf.container("i0", "a", "init", 0, EXITED)
    shelf.container("n0", "a", "new", 0, CREATED)
    shelf.container("foreign", "", "c", 0, EXITED)
    await ContainerCollector(cast(Runtime, shelf), FakePodControl(pod("a")), tmp_path).collect()
    assert set(shelf.shelved) == {"c2", "c3", "i0", "n0", "foreign"}
    assert [path.exists() for path in logs.values()] == [False, False, True, True]
    assert sorted(each.name for each in logs[0].parent.iterdir()) == [
        "2.log",
        "2.log.20260101-000000.gz",
        "3.log",
        "3.log.20260101-000000.gz",
    ]


async def test_of_a_pod_that_is_gone_nothing_dead_is_kept(shelf: Shelf, tmp_path: Path) -> None:
    for name in ("default_a_a", "default_gone_gone", "default_dying_dying", "notes", "default_b_b.txt"):
        (tmp_path / name).mkdir()
    shelf.container("g0", "gone", "c", 0, EXITED)
    shelf.container("d0", "dying", "c", 0, RUNNING)
    await ContainerCollector(cast(Runtime, shelf), FakePodControl(pod("a")), tmp_path).collect()
    assert set(shelf.shelved) == {"d0"}, "to end what runs is the pods' own part"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["default_a_a", "default_dying_dying", "notes"]


async def test_a_pod_that_comes_while_the_runtime_lists_keeps_what_it_has(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, listed = FakePodControl(), shelf.containers
    shelf.sandbox("box-new", "new", 0, SandboxState.NOT_READY)
    (tmp_path / "default_new_new").mkdir()

    async def containers(pod_uid: str = "") -> Sequence[Container]:
        if not control.here:
            control.here = [pod("new")]
            shelf.container("init", "new", "init", 0, EXITED)
        return await listed()

    monkeypatch.setattr(shelf, "containers", containers)
    await ContainerCollector(cast(Runtime, shelf), control, tmp_path).collect()
    assert set(shelf.shelved) == {"init"}
    assert set(shelf.boxes) == {"box-new"}
    assert (tmp_path / "default_new_new").is_dir()


def ended(uid: str, phase: str, reason: str = "") -> Pod:
    return Pod({**pod(uid).body, "status": {"phase": phase, "reason": reason}})


async def test_an_evicted_pod_keeps_its_last_logs_and_nothing_that_it_wrote(shelf: Shelf, tmp_path: Path) -> None:
    logs = [tmp_path / "default_big_big" / "c" / f"{number}.log" for number in range(2)]
    logs[0].parent.mkdir(parents=True)
    for number, path in enumerate(logs):
        path.write_text("x")
        shelf.container(f"big{number}", "big", "c", number, EXITED, log_path=path)
    shelf.container("slow", "big", "slow", 0, RUNNING)
    shelf.container("done", "done", "c", 0, EXITED)
    shelf.sandbox("box-left", "left", 0, SandboxState.NOT_READY)
    shelf.sandbox("box-done", "done", 0, SandboxState.NOT_READY)
    control = FakePodControl(ended("big", "Failed", "Evicted"), ended("left", "Failed", "Evicted"), ended("done", "Succeeded"))
    await ContainerCollector(cast(Runtime, shelf), control, tmp_path).collect()
    assert set(shelf.shelved) == {"slow", "done"}
    assert set(shelf.boxes) == {"box-done"}
    assert [each.exists() for each in logs] == [False, True]


async def test_for_want_of_disk_every_pod_that_has_ended_keeps_its_last_logs_only(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "default_done_done" / "c" / "0.log"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    shelf.container("d", "done", "c", 0, EXITED, log_path=path)
    shelf.container("f", "failed", "c", 0, EXITED)
    shelf.container("r", "restarts", "c", 0, EXITED)
    shelf.sandbox("box-done", "done", 0, SandboxState.NOT_READY)
    control = FakePodControl(ended("done", "Succeeded"), ended("failed", "Failed", "Error"), ended("restarts", "Running"))
    await ContainerCollector(cast(Runtime, shelf), control, tmp_path).free_all()
    assert set(shelf.shelved) == {"r"}, "of what is to start again the last run is kept"
    assert not shelf.boxes
    assert path.exists()


async def test_sandboxes(shelf: Shelf, tmp_path: Path) -> None:
    dead, alive = SandboxState.NOT_READY, SandboxState.READY
    shelf.sandbox("a0", "a", 0, dead)
    shelf.sandbox("a1", "a", 1, dead)
    shelf.sandbox("b0", "b", 0, dead)
    shelf.sandbox("b1", "b", 1, alive)
    shelf.sandbox("gone", "gone", 0, dead)
    shelf.sandbox("box-full", "full", 0, dead)
    shelf.container("f", "full", "c", 0, EXITED)
    shelf.stuck = {"f"}
    await ContainerCollector(cast(Runtime, shelf), FakePodControl(pod("a"), pod("b")), tmp_path / "none").collect()
    assert set(shelf.boxes) == {"a1", "b1", "box-full"}


def images(shelf: Shelf, *pods: Pod, clock: FakeClock | None = None) -> tuple[ImageCollector, FakeEvents]:
    events = FakeEvents()
    return ImageCollector(cast(Runtime, shelf), FakePodControl(*pods), events, KubeletSettings(), clock=clock or FakeClock()), events


async def test_below_the_threshold_all_images_stay(shelf: Shelf) -> None:
    shelf.image("old")
    shelf.available = 16 * GIB
    collector, events = images(shelf)
    await collector.collect()
    assert set(shelf.pictures) == {"id-old"}
    assert not events.told


async def test_a_full_disk_costs_only_images_nobody_needs(shelf: Shelf) -> None:
    for name in ("app", "running", "old", "older"):
        shelf.image(name)
    shelf.image("pinned", pinned=True)
    shelf.container("c", "a", "c", 0, RUNNING, image="id-running")
    shelf.available = 12 * GIB
    collector, events = images(shelf, pod("a", "app"))
    await collector.collect()
    assert set(shelf.pictures) == {"id-app", "id-running", "id-pinned", "id-older"}
    assert not events.told, "one was enough"


async def test_what_was_used_lately_goes_last(shelf: Shelf) -> None:
    clock = FakeClock()
    shelf.image("first")
    shelf.image("second")
    shelf.container("c", "a", "c", 0, RUNNING, image="id-first")
    collector, _ = images(shelf, clock=clock)
    await collector.collect()
    shelf.shelved.clear()
    shelf.available = 12 * GIB
    await clock.advance(300)
    await collector.collect()
    assert set(shelf.pictures) == {"id-first"}


async def test_a_new_image_is_left_alone_for_two_minutes(shelf: Shelf) -> None:
    clock = FakeClock()
    collector, events = images(shelf, clock=clock)
    await collector.collect()
    shelf.image("new")
    shelf.available = 12 * GIB
    await collector.collect()
    assert set(shelf.pictures) == {"id-new"}
    assert events.reasons == ["FreeDiskSpaceFailed"]
    await clock.advance(121)
    await collector.collect()
    assert not shelf.pictures


async def test_freeing_all_passes_over_what_cannot_go(shelf: Shelf) -> None:
    for name in ("a", "b", "app"):
        shelf.image(name)
    shelf.stuck = {"id-a"}
    collector, _ = images(shelf, pod("p", "app"))
    assert await collector.free_all() == 10 * GIB
    assert set(shelf.pictures) == {"id-a", "id-app"}
