"""What is compiled for the target: the hot paths' C, the shim with musl; crun and mosquitto from the distribution's sources."""

from __future__ import annotations

import inspect
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from freezing.roots import python_version, source_package
from freezing.targets import ROOT, STORE, Target, call, kept, say

_WARNINGS = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror=sign-compare")


def compiler(target: Target, root: Path) -> list[str]:
    """gcc for the target with the root's headers and libraries. A native one also finds the machine's own: the root's come first."""
    libraries = [f"{root}/usr/lib/{target.triplet}", f"{root}/lib/{target.triplet}"]
    return [target.tool("gcc"), f"--sysroot={root}", f"-B{libraries[0]}", *(f"-L{each}" for each in libraries)]


def build_script() -> dict[str, Any]:
    """setup.py's own names: what is compiled from what, with which of Cython's directives."""
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


def extensions(target: Target, root: Path, work: Path, into: Path, *, profile: bool, log: Path) -> None:
    """The hot paths into the package `into`/pinnace/ext. With `profile` every call and line of them can be traced."""
    script = build_script()
    python = python_version(root)
    directives = {**script["DIRECTIVES"], **({"profile": True, "linetrace": True} if profile else {})}
    macros = ["-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1"] if profile else []
    sources = work / "cython"
    package = sources / "pinnace" / "ext"
    package.mkdir(parents=True)
    (sources / "pinnace" / "__init__.py").touch()
    (package / "__init__.py").touch()
    for name in script["HOT_PATHS"]:
        shutil.copyfile(ROOT / f"ext/{name}_py.py", package / f"{name}_c.py")
        types = ROOT / f"ext/{name}_c.pxd"
        if types.exists():
            shutil.copyfile(types, package / f"{name}_c.pxd")
    for name in script["HOT_PATHS"]:
        options = [word for key, value in directives.items() for word in ("-X", f"{key}={value}")]
        call([sys.executable, "-m", "cython", *options, f"pinnace/ext/{name}_c.py"], cwd=sources, log=log)
        flags = [f"-I{root}/usr/include/python{python}", "-shared", "-fPIC", "-O2", "-g0", "-DNDEBUG", "-fwrapv", "-s", *_WARNINGS, *macros]
        library = into / "pinnace" / "ext" / f"{name}_c.cpython-{python.replace('.', '')}-{target.triplet}.so"
        call([*compiler(target, root), *flags, "-o", library, f"pinnace/ext/{name}_c.c"], cwd=sources, log=log)


def allocators(target: Target, root: Path, source: Path, into: Path, log: Path) -> None:
    """The profiling variant's counters as the module pinnace_allocators in the folder `into`."""
    flags = [f"-I{root}/usr/include/python{python_version(root)}", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-s"]
    call([*compiler(target, root), *flags, "-o", into / "pinnace_allocators.so", source], log=log)


def shim(target: Target, root: Path, work: Path, into: Path, log: Path) -> None:
    """pinnace-shim, linked statically with the root's musl: an eighth of what glibc makes of it."""
    musl = root / "usr/lib" / target.musl
    specs = work / "musl.specs"
    text = (musl / "musl-gcc.specs").read_text()
    specs.write_text(text.replace("/usr/lib/", f"{root}/usr/lib/").replace("/usr/include/", f"{root}/usr/include/"))
    options = ["-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
    sources = sorted(each.relative_to(ROOT) for each in (ROOT / "core/pods/oci/shim").glob("*.c"))
    call([target.tool("gcc"), f"-specs={specs}", *options, "-o", into, *sources], cwd=ROOT, log=log)


def crun(target: Target, root: Path) -> Path:
    """The folder with the program `crun`, static and without systemd."""

    def build(source: Path, log: Path) -> Path:
        configs = f"{root}/usr/lib/{target.triplet}/pkgconfig:{root}/usr/share/pkgconfig"
        env = {"PKG_CONFIG_LIBDIR": configs, "PKG_CONFIG_SYSROOT_DIR": str(root)}
        settings = [
            f"CC={' '.join(compiler(target, root))}",
            f"CPPFLAGS=-I{source}/libocispec/yajl/src/headers",
            f"CFLAGS=-Os -ffunction-sections -fdata-sections -ffile-prefix-map={source}=.",
            "ac_cv_search_gcry_check_version=no",
        ]
        options = ["--disable-systemd", "--disable-dl", "--enable-embedded-yajl", "--disable-shared", "--enable-static"]
        call(["./configure", f"--host={target.triplet}", *options, *settings], cwd=source, env=env, log=log)
        call(["make", f"-j{os.cpu_count()}", "LDFLAGS=-all-static -Wl,--gc-sections"], cwd=source, log=log)
        return source / "crun"

    return _from_source("crun", target, root, build, ["COPYING", "COPYING.libcrun"])


def mosquitto(target: Target, root: Path) -> Path:
    """The folder with the program `mosquitto`: with TLS and passwords, without what a broker on loopback never uses (TCP wrappers and NIS,
    systemd's and DLT's logs, websockets), which would bring a dozen libraries along."""

    def build(source: Path, log: Path) -> Path:
        switches = ["WITH_CJSON=no", "WITH_DOCS=no", "WITH_STRIP=no", "WITH_STATIC_LIBRARIES=no"]
        tool = f"CC={' '.join(compiler(target, root))}"
        flags = [f"CFLAGS=-O2 -Wall -ffile-prefix-map={source}=."]
        call(["make", f"-j{os.cpu_count()}", "-C", "src", tool, *flags, *switches, "mosquitto"], cwd=source, log=log)
        return source / "src/mosquitto"

    return _from_source("mosquitto", target, root, build, ["LICENSE.txt", "NOTICE.md", "edl-v10", "epl-v20"])


def _from_source(name: str, target: Target, root: Path, build: Callable[[Path, Path], Path], licences: list[str]) -> Path:
    """A folder with what `build` makes in the unpacked source of the distribution's package, stripped, its version, and its licences."""
    log = STORE / f"{name}-{target.arch}.log"

    def make(folder: Path) -> None:
        say(f"compiling {name} for {target.arch}")
        work = folder / "work"
        work.mkdir()
        source = source_package(root, name, work, log)
        call([target.tool("strip"), "-o", folder / name, build(source, log)], log=log)
        description = next(work.glob("*.dsc")).read_text()
        (folder / "version").write_text(next(line.split()[1] for line in description.splitlines() if line.startswith("Version:")))
        for each in (*licences, "debian/copyright"):
            shutil.copyfile(source / each, folder / Path(each).name)
        shutil.rmtree(work)

    return kept(f"{name}-{target.arch}", [root.name, inspect.getsource(build)], make)
