"""Random damage to good samples, and the frame of every harness: seeded, reproducible run by run, and quiet until something breaks."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from pinnace.ext import _build

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
Case = Callable[[random.Random], None]


def builds(name: str) -> list[ModuleType]:
    """The builds of a hot path, the reference first; it alone when PINNACE_PURE=1 asks for that."""
    return [importlib.import_module(f"pinnace.ext.{name}_{build}") for build in (("py",) if _build.PURE else ("py", "c"))]


def mutated(source: random.Random, samples: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """A sample with up to six injuries; `tokens` are pieces that mean something in its language."""
    text = source.choice(samples)
    for _ in range(source.randint(0, 6)):
        start = source.randint(0, len(text))
        stop = min(len(text), start + source.choice((0, 1, 1, 2, 4, 30)))
        match source.randrange(8):
            case 0:
                text = text[:start] + bytes([source.randrange(256)]) + text[stop:]
            case 1:
                text = text[:start] + text[stop:]
            case 2:
                text = text[:start] + source.choice(tokens) + text[stop:]
            case 3:
                text = text[:start] + source.choice(tokens) * source.choice((1, 2, 40)) + text[start:]
            case 4:
                text = text[:start]
            case 5:
                text = text[:stop] + text[start:]
            case 6:
                other = source.choice(samples)
                text = text[:start] + other[source.randint(0, len(other)) :]
            case _:
                text = text[:start] + text[start:stop].swapcase() + text[stop:]
    return text


def hunt(case: Case, *, runs: int, seed: int) -> None:
    """Run `case` with a source of its own for each run. Whatever it raises goes on, with the seed that repeats it."""
    for run in range(runs):
        try:
            case(random.Random(f"{seed}/{run}"))
        except BaseException as error:
            error.add_note(f"run {run} of seed {seed}: --seed {seed} --only {run}")
            raise


def main(about: str | None, case: Case) -> int:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="chosen and printed if not given")
    parser.add_argument("--only", type=int, help="repeat this one run of the seed")
    args = parser.parse_args()
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    if args.only is not None:
        case(random.Random(f"{seed}/{args.only}"))
        return 0
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    begun = time.monotonic()
    hunt(case, runs=args.runs, seed=seed)
    sys.stdout.write(f"{args.runs} runs in {time.monotonic() - begun:.1f} s: nothing found\n")
    return 0
