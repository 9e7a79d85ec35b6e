"""Envelope, frame, cache: compiled build against reference build and the obvious alternative; what the cache costs in memory.

All figures of a comparison are of the same run, interleaved, the best of several rounds each. `--json FILE` writes them down.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import orjson

from pinnace.ext import records_py

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "kubeedge" / "kubeedge-1.23.1-websocket.jsonl"
ROUNDS = 40
ROUND_SECONDS = 0.006
OBJECTS = 2000
WARM_OBJECTS = 10_000
KEPT_OBJECTS = 20_000

HOT_PATHS = ("envelope", "frame", "metacache")
envelope_c, frame_c, metacache_c = (importlib.import_module(f"pinnace.ext.{name}_c") for name in HOT_PATHS)
with mock.patch("pinnace.ext.records", records_py):  # each build works on its own records, as where it is the only one
    envelope_py, frame_py, metacache_py = (importlib.import_module(f"pinnace.ext.{name}_py") for name in HOT_PATHS)


class Key(NamedTuple):
    """A key as the store passes it."""

    kind: str
    namespace: str
    name: str


def nanoseconds(works: dict[str, Callable[[], object]], units: int) -> dict[str, float]:
    """Nanoseconds per unit of each work, which does `units` of them."""
    repeats: dict[str, int] = {}
    for name, work in works.items():
        begun = time.perf_counter()
        work()
        repeats[name] = max(1, round(ROUND_SECONDS / max(time.perf_counter() - begun, 1e-7)))
    best = dict.fromkeys(works, float("inf"))
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name, work in works.items():
                begun = time.perf_counter()
                for _ in range(repeats[name]):
                    work()
                best[name] = min(best[name], (time.perf_counter() - begun) / repeats[name])
            gc.collect()
    finally:
        gc.enable()
    return {name: round(seconds / units * 1e9, 1) for name, seconds in best.items()}


def compared(works: dict[str, Callable[[], object]], units: int) -> dict[str, float]:
    """`nanoseconds`, and how many times as long as `compiled` the others take."""
    found = nanoseconds(works, units)
    return found | {f"times_{name}": round(each / found["compiled"], 1) for name, each in found.items() if name != "compiled"}


def summed(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    """One after the other: the sum of their times and its ratios."""
    total: dict[str, float] = {}
    for part in parts:
        for name, each in part.items():
            if not name.startswith("times_"):
                total[name] = round(total.get(name, 0) + each, 1)
    return total | {f"times_{name}": round(each / total["compiled"], 1) for name, each in total.items() if name != "compiled"}


# --- Framing: the 86 envelopes of a recorded session of upstream's programs ---


def framing() -> dict[str, dict[str, float]]:
    texts = [json.loads(line)["text"].encode() for line in VECTORS.read_text().splitlines()]
    messages = [envelope_c.decode(text) for text in texts]
    plain_messages = [envelope_py.decode(text) for text in texts]
    values = [orjson.loads(text) for text in texts]
    stream = frame_py.pack(plain_messages)
    count = len(texts)

    def each(function: Callable[[Any], Any], arguments: list[Any]) -> Callable[[], object]:
        return lambda: [function(argument) for argument in arguments]

    decode = compared(
        {"compiled": each(envelope_c.decode, texts), "pure": each(envelope_py.decode, texts), "orjson_loads": each(orjson.loads, texts)},
        count,
    )
    encode = compared(
        {
            "compiled": each(envelope_c.encode, messages),
            "pure": each(envelope_py.encode, plain_messages),
            "orjson_dumps": each(orjson.dumps, values),
        },
        count,
    )
    pack = compared({"compiled": lambda: frame_c.pack(messages), "pure": lambda: frame_py.pack(plain_messages)}, count)
    feed = compared({"compiled": lambda: frame_c.FrameReader().feed(stream), "pure": lambda: frame_py.FrameReader().feed(stream)}, count)
    return {
        "envelope.decode": decode,
        "envelope.encode": encode,
        "envelope": summed(
            {name.removesuffix("_loads").removesuffix("_dumps"): each for name, each in part.items()} for part in (decode, encode)
        ),
        "frame.pack": pack,
        "frame.feed": feed,
        "frame": summed((pack, feed)),
        "framing (all four)": summed({name: part[name] for name in ("compiled", "pure")} for part in (decode, encode, pack, feed)),
    }


# --- Cache ---


class DictOfDicts:
    """The obvious alternative: no bound, no sharing, every object decoded."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[str, dict[str, Any]]] = {}

    def put(self, key: Key, version: str, body: bytes, labels: dict[str, str]) -> None:
        kind, namespace, name = key
        self.kinds.setdefault(kind, {}).setdefault(namespace, {})[name] = orjson.loads(body)

    def get(self, key: Key) -> tuple[str, dict[str, Any]] | None:
        kind, namespace, name = key
        found = self.kinds.get(kind, {}).get(namespace, {}).get(name)
        return None if found is None else (found["metadata"]["resourceVersion"], found)

    def list_by_label(self, kind: str, namespace: str, selector: dict[str, str]) -> list[dict[str, Any]]:
        wanted = selector.items()
        spaces = self.kinds.get(kind, {})
        return [
            found
            for space in ([namespace] if namespace else sorted(spaces))
            for _, found in sorted(spaces.get(space, {}).items())
            if wanted <= found["metadata"]["labels"].items()
        ]


def config_map(number: int) -> tuple[Key, str, bytes, dict[str, str]]:
    """A ConfigMap of 1 KB as it comes off the wire: nothing in it is shared with another."""
    namespace, name, version = f"space-{number % 8}", f"settings-{number:06d}", str(100_000 + number)
    labels = {"app": f"app-{number % 10}", "tier": "front"}
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"6f0f5c1e-3b5a-4c0e-9d3b-{number:012d}",
            "resourceVersion": version,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels,
        },
        "data": {f"key-{place}": f"{number}-{place}-" + "v" * 40 for place in range(10)},
    }
    value["data"]["rest"] = ""
    value["data"]["rest"] = "r" * (1024 - len(orjson.dumps(value)))
    message = envelope_c.decode(orjson.dumps({"header": {"msg_id": "m"}, "content": value}))
    body: bytes = message.body
    decoded = orjson.loads(body)["metadata"]
    return Key("configmap", decoded["namespace"], decoded["name"]), decoded["resourceVersion"], body, decoded["labels"]


def cache() -> dict[str, dict[str, float]]:
    objects = [config_map(number) for number in range(OBJECTS)]
    keys = [key for key, *_ in objects]

    def filled(cache: Any) -> Any:
        for key, version, body, labels in objects:
            cache.put(key, version, body, labels)
        return cache

    def gets(cache: Any) -> Callable[[], object]:
        def work() -> None:
            get = cache.get
            for key in keys:
                get(key)

        return work

    makers: dict[str, Callable[[], Any]] = {
        "compiled": lambda: metacache_c.MetaCache(1 << 30),
        "pure": lambda: metacache_py.MetaCache(1 << 30),
        "dict_of_dicts": DictOfDicts,
    }
    caches = {name: filled(make()) for name, make in makers.items()}

    def fill(make: Callable[[], Any]) -> Callable[[], object]:
        return lambda: filled(make())

    def of_all(work: Callable[[Any], Callable[[], object]]) -> dict[str, Callable[[], object]]:
        return {name: work(cache) for name, cache in caches.items()}

    found = {
        "cache.fill": compared({name: fill(make) for name, make in makers.items()}, OBJECTS),
        "cache.put again": compared(of_all(lambda cache: lambda: filled(cache)), OBJECTS),
        "cache.get": compared(of_all(gets), OBJECTS),
        "cache.list": compared(of_all(lambda cache: lambda: cache.list_by_label("configmap", "space-3", {})), OBJECTS // 8),
        "cache.list by label": compared(of_all(lambda cache: lambda: cache.list_by_label("configmap", "", {"app": "app-3"})), OBJECTS),
    }
    return found | {"cache (all five)": summed(found.values())}


# --- Memory ---

HOLDERS: dict[str, Callable[[], Any]] = {
    "compiled": lambda: metacache_c.MetaCache(1 << 40),
    "pure": lambda: metacache_py.MetaCache(1 << 40),
    "dict_of_dicts": DictOfDicts,
}


def resident_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Dirty:", "Swap:")))


def hold(holder: str) -> float:
    """Bytes of private memory per object of 1 KB that this process gains by holding `KEPT_OBJECTS` of them."""
    cache = HOLDERS[holder]()
    for number in range(WARM_OBJECTS):  # they take what memory the interpreter has lying about
        cache.put(*config_map(number))
    gc.collect()
    before = resident_bytes()
    for number in range(WARM_OBJECTS, WARM_OBJECTS + KEPT_OBJECTS):
        cache.put(*config_map(number))
    gc.collect()
    return round((resident_bytes() - before) / KEPT_OBJECTS, 1)


def memory() -> dict[str, float]:
    """Each holder in a process of its own."""
    found = {}
    for holder in HOLDERS:
        run = subprocess.run([sys.executable, __file__, "--hold", holder], check=True, capture_output=True, text=True)
        found[holder] = float(run.stdout)
    counted = metacache_c.MetaCache(1 << 40)
    for number in range(1000):
        counted.put(*config_map(number))
    return found | {
        "counted_by_the_cache": counted.bytes_used / 1000,
        "times_dict_of_dicts": round(found["dict_of_dicts"] / found["compiled"], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--hold", choices=HOLDERS, help="only hold objects this way and print the bytes each")
    args = parser.parse_args()
    if args.hold:
        sys.stdout.write(f"{hold(args.hold)}\n")
        return 0
    figures: dict[str, Any] = {}
    for part in (framing, cache):
        for name, row in part().items():
            figures[name] = row
            ratios = "  ".join(f"{key.removeprefix('times_')} x{value}" for key, value in row.items() if key.startswith("times_"))
            sys.stdout.write(f"{name:22} compiled {row['compiled']:9.1f} ns  {ratios}\n")
    figures["memory: bytes per object of 1 KB"] = held = memory()
    sys.stdout.write(f"bytes per object of 1 KB: {held}\n")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
