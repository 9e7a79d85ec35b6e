"""The cache, against a dict of dicts that keeps its own account of what may stay."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.ext import _build
from pinnace.ext import metacache as facade

Key = tuple[str, str, str]
ENTRY_BYTES = 250
LABEL_BYTES = 40


class Model:
    """What the cache should hold: every object, and the bodies used last that fit."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.objects: dict[Key, tuple[str, dict[str, str]]] = {}
        self.bodies: dict[Key, bytes] = {}  # in the order of use

    @property
    def bytes_used(self) -> int:
        bodies = sum(len(body) for body in self.bodies.values())
        return bodies + sum(
            ENTRY_BYTES + len(name) + len(version) + 2 * LABEL_BYTES * len(labels)
            for (_, _, name), (version, labels) in self.objects.items()
        )

    def keep(self, key: Key, body: bytes) -> None:
        self.bodies.pop(key, None)
        self.bodies[key] = body
        while self.bodies and self.bytes_used > self.max_bytes:
            del self.bodies[next(iter(self.bodies))]

    def put(self, key: Key, version: str, body: bytes, labels: dict[str, str] | None) -> None:
        self.bodies.pop(key, None)
        self.objects[key] = (version, labels or {})
        self.keep(key, body)

    def restore(self, key: Key, version: str, body: bytes) -> bool:
        if key not in self.objects or self.objects[key][0] != version:
            return False
        self.keep(key, body)
        return True

    def get(self, key: Key) -> tuple[str, bytes | None] | None:
        if key not in self.objects:
            return None
        if key in self.bodies:
            self.bodies[key] = self.bodies.pop(key)
        return self.objects[key][0], self.bodies.get(key)

    def delete(self, key: Key) -> bool:
        self.bodies.pop(key, None)
        return self.objects.pop(key, None) is not None

    def list_by_label(self, kind: str, namespace: str, selector: dict[str, str]) -> list[tuple[str, str, str, bytes | None]]:
        return [
            (key[1], key[2], version, self.bodies.get(key))
            for key, (version, labels) in sorted(self.objects.items())
            if key[0] == kind and namespace in ("", key[1]) and selector.items() <= labels.items()
        ]

    def clear(self) -> None:
        self.objects.clear()
        self.bodies.clear()


KINDS = st.sampled_from(("pod", "secret"))
SPACES = st.sampled_from(("default", "kube-system"))
KEYS = st.tuples(KINDS, SPACES | st.just(""), st.sampled_from(("a", "b", "c", "long-name", "ünï")))
LABELS = st.dictionaries(st.sampled_from(("app", "tier", "x")), st.sampled_from(("app", "web", "")), max_size=3)
VERSIONS = st.sampled_from(("1", "2", "12345"))
BODIES = st.integers(0, 400).map(bytes)
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS, VERSIONS, BODIES, LABELS | st.none()),
    st.tuples(st.just("put"), KEYS, VERSIONS, BODIES, LABELS | st.none()),
    st.tuples(st.just("get"), KEYS),
    st.tuples(st.just("restore"), KEYS, VERSIONS, BODIES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("list_by_label"), KINDS, SPACES | st.just("") | st.just("none"), LABELS),
    st.tuples(st.just("clear")),
)


def test_facade_is_the_build_that_was_asked_for() -> None:
    assert facade.MetaCache.__module__ == f"pinnace.ext.metacache_{'py' if _build.PURE else 'c'}"


@settings(max_examples=300)
@given(st.integers(0, 4000), st.lists(STEPS, max_size=40))
def test_any_use_gives_what_a_dict_of_dicts_gives(metacache: ModuleType, max_bytes: int, steps: list[tuple[Any, ...]]) -> None:
    cache = metacache.MetaCache(max_bytes)
    model = Model(max_bytes)
    for name, *arguments in steps:
        assert getattr(cache, name)(*arguments) == getattr(model, name)(*arguments)
        assert len(cache) == len(model.objects)
        assert cache.bytes_used == model.bytes_used
        assert cache.evicted == len(model.objects) - len(model.bodies)
        assert cache.kinds() == sorted({kind for kind, _, _ in model.objects})
    for key in model.objects:
        assert key in cache
    assert ("pod", "default", "other") not in cache
    for kind in ("pod", "secret", "none"):
        assert cache.list(kind) == model.list_by_label(kind, "", {})
        assert cache.list(kind, "default") == model.list_by_label(kind, "default", {})


def test_the_body_used_longest_ago_goes_first(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(3 * (ENTRY_BYTES + 1 + 1) + 2 * 1000)
    for name in "abc":
        assert cache.get(("pod", "ns", name)) is None
        cache.put(("pod", "ns", name), "1", bytes(1000))
        cache.get(("pod", "ns", "a"))
    assert [(name, body is not None) for _, name, _, body in cache.list("pod")] == [("a", True), ("b", False), ("c", True)]
    assert cache.evicted == 1
    assert cache.get(("pod", "ns", "b")) == ("1", None)
    assert cache.restore(("pod", "ns", "b"), "1", bytes(1000))
    assert cache.get(("pod", "ns", "b")) == ("1", bytes(1000))
    assert [(name, body is not None) for _, name, _, body in cache.list("pod")] == [("a", True), ("b", True), ("c", False)]


def test_a_body_is_not_restored_over_a_newer_object(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(10_000)
    key = ("pod", "ns", "a")
    cache.put(key, "1", b"old")
    cache.put(key, "2", b"new")
    assert not cache.restore(key, "1", b"old")
    assert cache.get(key) == ("2", b"new")
    cache.delete(key)
    assert not cache.restore(key, "2", b"new")
    assert len(cache) == 0


def test_an_object_over_the_bound_alone_is_known_but_not_held(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(1000)
    cache.put(("pod", "ns", "small"), "1", bytes(100))
    cache.put(("pod", "ns", "big"), "7", bytes(5000))
    assert cache.get(("pod", "ns", "big")) == ("7", None)
    assert cache.bytes_used <= 1000


def test_labels_are_compared_by_pairs(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(100_000)
    cache.put(("pod", "ns", "a"), "1", b"", {"app": "web", "web": "app"})
    cache.put(("pod", "ns", "b"), "1", b"", {"web": "web"})
    cache.put(("pod", "ns", "c"), "1", b"")

    def named(selector: dict[str, str]) -> list[str]:
        return [name for _, name, _, _ in cache.list_by_label("pod", "ns", selector)]

    assert named({}) == ["a", "b", "c"]
    assert named({"app": "web"}) == ["a"]
    assert named({"web": "web"}) == ["b"]
    assert named({"app": "web", "web": "app"}) == ["a"]
    assert named({"web": "app", "x": "y"}) == []
    cache.put(("pod", "ns", "a"), "2", b"")
    assert named({"app": "web"}) == []


def test_a_list_is_not_the_index_itself(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(10_000)
    cache.put(("pod", "ns", "b"), "1", b"")
    cache.list("pod").clear()
    assert len(cache.list("pod")) == 1
    cache.put(("pod", "ns", "a"), "1", b"")
    assert [name for _, name, _, _ in cache.list("pod")] == ["a", "b"]
    cache.delete(("pod", "ns", "b"))
    assert [name for _, name, _, _ in cache.list("pod")] == ["a"]


def test_what_is_deleted_is_freed_without_the_collector(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(10_000_000)
    cache.put(("pod", "ns", "other"), "1", b"body")
    version = "-".join(("one", "two"))
    before = sys.getrefcount(version)
    gc.disable()
    try:
        cache.put(("pod", "ns", "a"), version, b"body")
        cache.put(("pod", "ns", "another"), "1", b"body")
        assert sys.getrefcount(version) > before
        cache.delete(("pod", "ns", "a"))
        assert sys.getrefcount(version) == before
    finally:
        gc.enable()


def test_a_large_cache_is_freed_and_cleared(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(1 << 40)
    for number in range(100_000):
        cache.put(("pod", "ns", f"p{number}"), "1", b"x")
    cache.clear()
    assert (len(cache), cache.bytes_used, cache.evicted, cache.list("pod"), cache.kinds()) == (0, 0, 0, [], [])
    for number in range(100_000):
        cache.put(("pod", "ns", f"p{number}"), "1", b"x")
    del cache
    gc.collect()


def test_labels_that_change_and_labels_that_do_not(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(10_000)
    key = ("pod", "ns", "a")
    sizes = []
    for labels in ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "c": "3"}, {"a": "1"}, {}, None):
        cache.put(key, "1", b"", labels)
        sizes.append(cache.bytes_used)
        for wanted in ({"a": "1"}, {"b": "2"}, {"b": "3"}, {"c": "3"}):
            assert bool(cache.list_by_label("pod", "ns", wanted)) == (wanted.items() <= (labels or {}).items())
    assert [size - sizes[-1] for size in sizes] == [4 * LABEL_BYTES] * 4 + [2 * LABEL_BYTES, 0, 0]


def test_wrong_keys_are_refused(metacache: ModuleType) -> None:
    cache = metacache.MetaCache(1000)
    for wrong in (None, ("pod", "ns"), ("pod", "ns", "a", "b")):
        for call in (cache.get, cache.delete, cache.__contains__):
            with pytest.raises((TypeError, ValueError)):
                call(wrong)
    assert len(cache) == 0


def test_a_named_tuple_is_a_key(metacache: ModuleType) -> None:
    class Key(NamedTuple):
        kind: str
        namespace: str
        name: str

    cache = metacache.MetaCache(1000)
    cache.put(Key("pod", "default", "one"), "1", b"{}")
    assert cache.get(("pod", "default", "one")) == ("1", b"{}")
    assert cache.get(Key("pod", "default", "one")) == ("1", b"{}")
    assert cache.delete(Key("pod", "default", "one"))
