"""Mappings are told apart by what they are for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnace.core.footprint import mappings
from pinnace.core.footprint.mappings import Part, Sizes

SMAPS = """\
55d0a0000000-55d0a0100000 r-xp 00000000 08:01 100    /opt/pinnace/1/pinnace
Size:               1024 kB
Rss:                 100 kB
Pss:                  60 kB
Private_Clean:        20 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
55d0a1000000-55d0a2000000 rw-p 00000000 00:00 0      [heap]
Rss:                 400 kB
Pss:                 400 kB
Private_Clean:         0 kB
Private_Dirty:       400 kB
Anonymous:           400 kB
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Rss:                1000 kB
Pss:                1000 kB
Private_Clean:         0 kB
Private_Dirty:      1000 kB
Anonymous:          1000 kB
7f0000200000-7f0000300000 r-xp 00000000 08:01 101    /opt/pinnace/1/lib/uvloop/loop.cpython-311-aarch64-linux-gnu.so
Rss:                 300 kB
Pss:                 200 kB
Private_Clean:       200 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
7f0000300000-7f0000310000 rw-p 00100000 08:01 101    /opt/pinnace/1/lib/uvloop/loop.cpython-311-aarch64-linux-gnu.so
Rss:                  16 kB
Pss:                  16 kB
Private_Clean:         0 kB
Private_Dirty:        16 kB
Anonymous:            16 kB
"""


def test_a_list_of_mappings_is_summed_by_file() -> None:
    found = mappings.parse(SMAPS, "/opt/pinnace/1/pinnace")
    kb = 1024
    assert [(each.name, each.part, each.sizes) for each in found] == [
        ("(anonymous)", Part.ANONYMOUS, Sizes(1000 * kb, 1000 * kb, 1000 * kb, 0)),
        ("[heap]", Part.HEAP, Sizes(400 * kb, 400 * kb, 400 * kb, 0)),
        ("uvloop.loop", Part.EXTENSIONS, Sizes(216 * kb, 316 * kb, 216 * kb, 200 * kb)),
        ("pinnace", Part.PROGRAM, Sizes(60 * kb, 100 * kb, 20 * kb, 60 * kb)),
    ]
    assert list(mappings.by_part(found)) == [Part.HEAP, Part.ANONYMOUS, Part.EXTENSIONS, Part.PROGRAM]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/usr/lib/aarch64-linux-gnu/libcrypto.so.3", Part.TLS),
        ("/opt/p/lib/lib-dynload/_ssl.cpython-311-aarch64-linux-gnu.so", Part.TLS),
        ("/opt/p/lib/libpython3.11.so.1.0", Part.INTERPRETER),
        ("/usr/bin/python3.11", Part.INTERPRETER),
        ("/opt/p/lib/pinnace/ext/frame_c.cpython-311-aarch64-linux-gnu.so", Part.HOT_PATHS),
        ("/opt/p/lib/yaml/_yaml.cpython-311-aarch64-linux-gnu.so", Part.EXTENSIONS),
        ("/x/site-packages/cryptography/hazmat/bindings/_rust.abi3.so", Part.EXTENSIONS),
        ("/usr/lib/x86_64-linux-gnu/libsqlite3.so.0.8.6", Part.LIBRARIES),
        ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Part.LIBRARIES),
        ("/var/lib/kubeedge/edgecore.db-shm", Part.FILES),
        ("[stack]", Part.STACK),
        ("[vdso]", Part.KERNEL),
        ("[anon: glibc: malloc]", Part.ANONYMOUS),
        ("/memfd:x", Part.SHARED),
    ],
)
def test_what_a_file_is_for(path: str, part: Part) -> None:
    assert mappings.part_of(path) is part


def test_this_process_adds_up() -> None:
    found = mappings.read(os.getpid())
    parts = mappings.by_part(found)
    assert sum(each.pss for each in parts.values()) == sum(each.sizes.pss for each in found)
    assert all(0 <= each.uss <= each.pss <= each.rss for each in parts.values())
    assert parts[Part.ANONYMOUS].pss > 1 << 20
    whole = mappings.rollup(Path(f"/proc/{os.getpid()}/smaps_rollup").read_text())
    assert 0.7 < sum(each.pss for each in parts.values()) / whole.pss < 1.3
