"""The frame reader under damaged streams in any pieces: FrameError or messages, the same in both builds, and as a plain reader sees it.

python tests/fuzz/fuzz_frame.py --runs 200000 [--seed N]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.mutations import VECTORS, builds, main, mutated
from oracles import envelopes, protobuf

from pinnace.ext.errors import FrameError
from pinnace.ext.records import Envelope

BUILDS = builds("frame")


def samples() -> list[bytes]:
    texts = [json.loads(line)["text"] for line in (VECTORS / "kubeedge" / "kubeedge-1.23.1-websocket.jsonl").read_text().splitlines()]
    found = []
    for text in texts:
        message, _ = envelopes.decode(text.encode())
        message.body = json.dumps(json.loads(text)["content"]).encode()[:300]
        found.append(protobuf.packed(message))
    return found + [b"".join(found[at : at + 3]) for at in range(0, len(found) - 3, 3)]


SAMPLES = samples()
TOKENS = [
    b"\x01\x01\x01\x00\x01\x00", b"\x00\x00\x00\x05", b"\x02\x00\x00\x00", b"\x02\x00\x00\x01", b"\xff\xff\xff\xff", b"\x0a",
    b"\x12", b"\x1a", b"\x18", b"\x20\x01", b"\x32", b"\x3a", b"\x80", b"\x80" * 10, b"\xff" * 9 + b"\x01", b"\x09", b"\x0d",
    b"\x0b", b"\x0c", b"\x0e", b"\x00", b"\x0a\x00", b"\x0a\x02\xc3\xa9", b"\x0a\x01\xff", b"\x1a\x04null", b"\x48\x05",
]  # fmt: skip


def number(source: random.Random) -> int:
    """A number of 64 bits, at the edge of a length or of a type more often than not."""
    edge = 1 << source.choice((0, 7, 14, 31, 32, 62, 63, 64))
    return source.choice((edge - 1, edge, edge + 1, source.getrandbits(64))) % 2**64


def made(source: random.Random) -> bytes:
    """A frame of fields known and unknown, in any order and often, with numbers of every size."""

    def fields(texts: int) -> list[protobuf.Field]:
        found: list[protobuf.Field] = []
        for _ in range(source.randrange(5)):
            key = source.choice((3, 4, source.randint(1, 7), 1 + number(source) % (2**61 - 1)))
            is_number = key in (3, 4) if key <= texts else source.randrange(2)
            found.append((key, number(source) if is_number else source.choice((b"", b"a", "é".encode(), b"x" * 130))))
        return found

    parts = [(1, protobuf.written(fields(7))), (2, protobuf.written(fields(0))), (3, b"{}"), *fields(0)]
    return protobuf.frame(protobuf.written(source.sample(parts, source.randint(1, len(parts)))))


def read(build: Any, stream: bytes, cuts: list[int]) -> list[Envelope | str]:
    """The messages of a stream that comes in pieces, and the error it ends in."""
    reader = build.FrameReader()
    found: list[Envelope | str] = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        try:
            found += reader.feed(stream[start:stop])
        except FrameError as error:
            return [*found, str(error)]
    return found


def case(source: random.Random) -> None:
    stream = mutated(source, source.choice((SAMPLES, [made(source)])), TOKENS)
    if source.randrange(2):  # whole frames with damaged payloads get further than damaged heads
        stream = protobuf.frame(stream[10:]) + source.choice(SAMPLES)
    cuts = sorted(source.randint(0, len(stream)) for _ in range(source.randrange(6)))
    results = [read(build, stream, cuts) for build in BUILDS]
    assert all(result == results[0] for result in results), (stream, cuts, results)
    messages = [each for each in results[0] if isinstance(each, Envelope)]
    expected, is_good = protobuf.stream(stream)
    assert is_good == (messages == results[0]), (stream, results[0])
    assert messages == (expected if is_good else expected[: len(messages)]), (stream, cuts)
    for build in BUILDS:
        packed = build.pack(messages)
        assert packed == b"".join(protobuf.packed(message) for message in messages), stream
        assert read(build, packed, []) == messages, stream


if __name__ == "__main__":
    sys.exit(main(__doc__, case))
