"""Which images go."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.runtime import Container, ContainerState, DiskUsage, Image
from pinnace.core.pods.rules.imagegc import bytes_to_free, to_remove, used_images


def image(name: str, *, pinned: bool = False, used_at: float = 0.0) -> Image:
    return Image(f"sha256:{name}", (f"docker.io/library/{name}:1",), (f"{name}@sha256:m",), 10, is_pinned=pinned, used_at=used_at)


def container(*, image: str = "", image_name: str = "", image_ref: str = "") -> Container:
    return Container("c", "s", "main", 0, ContainerState.EXITED, image, image_name, image_ref, created_at=1.0)


@given(st.integers(1, 1 << 40), st.integers(0, 100), st.integers(1, 100), st.integers(1, 100))
def test_freeing_brings_it_to_the_low_threshold(capacity: int, share: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    disk = DiskUsage(Path("/"), 0, capacity, capacity - capacity * share // 100, 0, 0)
    used, due = disk.capacity - disk.available, bytes_to_free(disk, high, low)
    if used < high * capacity / 100:
        assert due == 0
    else:
        assert used - due <= low * capacity / 100


def test_used_by_id_reference_or_name_or_wanted() -> None:
    images = [image(each) for each in "abcde"]
    containers = [container(image="sha256:a"), container(image_ref="b@sha256:m"), container(image_name="docker.io/library/c:1")]
    assert used_images(images, containers, {"sha256:d"}) == {f"sha256:{each}" for each in "abcd"}


def test_the_longest_unused_goes_first() -> None:
    images = [image("new"), image("old"), image("pinned", pinned=True), image("busy"), image("young"), image("marked", used_at=500.0)]
    seen = {each.id: 0.0 for each in images} | {"sha256:young": 950.0}
    last = {"sha256:new": 800.0, "sha256:old": 100.0}
    found = to_remove(images, {"sha256:busy"}, last, first_seen=seen, now=1000.0, min_age=120.0)
    assert [each.id for each in found] == ["sha256:old", "sha256:marked", "sha256:new"]
    assert not to_remove(images, set(), last, first_seen={}, now=1000.0, min_age=120.0), "never seen before is young"
