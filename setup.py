"""Compiled extensions only; everything else is in pyproject.toml.

Each hot path is one readable source, ``ext/<name>_py.py``, importable as the reference build and compiled a second time under the name
``<name>_c`` with the C types of ``ext/<name>_c.pxd``.

Beside the extensions one program is compiled: ``core/pods/oci/shim/pinnace-shim``, the small supervisor of each container, linked
statically (SHIM_CC names the compiler: musl's where it is there, since glibc makes it eight times larger).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HOT_PATHS = ("records", "envelope", "frame", "twindiff", "metacache")
EXT = Path("packaging/ns/pinnace/ext")
SHIM = Path("core/pods/oci/shim")
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


class BuildAll(build_ext):
    """The extensions, then the shim, beside its source and in the tree a wheel is made from."""

    def run(self) -> None:
        super().run()
        program = SHIM / "pinnace-shim"
        compiler = os.environ.get("SHIM_CC") or ("musl-gcc" if shutil.which("musl-gcc") else "gcc")
        options = ["-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
        made = program.with_suffix(".new")
        subprocess.run([compiler, *options, "-o", str(made), *sorted(map(str, SHIM.glob("*.c")))], check=True)
        made.rename(program)
        if not self.inplace and not getattr(self, "editable_mode", False):
            into = Path(self.build_lib) / "pinnace" / SHIM
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(program, into)


if __name__ == "__main__":  # packaging/freezing reads the names above
    setup(
        ext_modules=cythonize(
            [compiled(name) for name in HOT_PATHS],
            include_path=["packaging/ns"],
            build_dir=".build/cython",
            compiler_directives=DIRECTIVES,
        ),
        cmdclass={"build_ext": BuildAll},
    )
