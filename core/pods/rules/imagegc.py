"""Which images go when their disk fills up (the kubelet's rules). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pinnace.core.base.runtime import Container, DiskUsage, Image


def bytes_to_free(disk: DiskUsage, high_percent: int, low_percent: int) -> int:
    """0 while the file system's usage is below the high threshold, else what brings it down to the low one."""
    if disk.capacity <= 0:
        return 0
    used = disk.capacity - disk.available
    if used * 100 < high_percent * disk.capacity:
        return 0
    return max(used - disk.capacity * low_percent // 100, 0)


def used_images(images: Sequence[Image], containers: Sequence[Container], wanted: Collection[str]) -> frozenset[str]:
    """The ids of images that a container, running or not, was made from, and the `wanted` ids: of pods that are to be here, so that
    they can start again without a registry."""
    named = {name for each in containers for name in (each.image, each.image_ref, each.image_name)}
    return frozenset(each.id for each in images if each.id in wanted or named.intersection((each.id, *each.tags, *each.digests)))


def to_remove(
    images: Sequence[Image],
    used: Collection[str],
    last_used: Mapping[str, float],
    *,
    first_seen: Mapping[str, float],
    now: float,
    min_age: float,
) -> list[Image]:
    """What may go, the one that was used longest ago first: not used now, not pinned, seen for `min_age` seconds at least. `last_used` and
    `first_seen` are Unix seconds by image id; the runtime's own memory of use counts too."""

    def key(image: Image) -> tuple[float, float]:
        return max(last_used.get(image.id, 0.0), image.used_at), first_seen.get(image.id, 0.0)

    idle = [each for each in images if each.id not in used and not each.is_pinned and now - first_seen.get(each.id, now) >= min_age]
    return sorted(idle, key=key)
