"""Compiled extensions only; everything else is in pyproject.toml.

Each hot path is one readable source, ``ext/<name>_py.py``, importable as the reference build and compiled a second time under the name
``<name>_c`` with the C types of ``ext/<name>_c.pxd``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HOT_PATHS = ("records", "envelope", "frame", "twindiff", "metacache")
EXT = Path("packaging/ns/pinnace/ext")
GENERATED = Path(".build/sources/pinnace/ext")

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "binding": False,
    "embedsignature": True,
    "autotestdict": False,
    "freethreading_compatible": True,
}


def compiled(name: str) -> Extension:
    """The extension ``pinnace.ext.<name>_c`` made from the reference source of the same name."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    source = GENERATED / f"{name}_c.py"
    shutil.copyfile(EXT / f"{name}_py.py", source)
    types = EXT / f"{name}_c.pxd"
    if types.exists():
        shutil.copyfile(types, source.with_suffix(".pxd"))
    return Extension(
        f"pinnace.ext.{name}_c",
        [str(source)],
        extra_compile_args=["-O2", "-g0", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=sign-compare"],
    )


setup(
    ext_modules=cythonize(
        [compiled(name) for name in HOT_PATHS],
        include_path=["packaging/ns"],
        build_dir=".build/cython",
        compiler_directives=DIRECTIVES,
    ),
)
