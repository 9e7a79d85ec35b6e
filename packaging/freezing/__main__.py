"""Freeze the edge: `python -m freezing [--arch arm64] [--profile]`. It makes dist/ARCH/pinnace and dist/ARCH/pinnace-VERSION-ARCH."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freezing import bundle, checks, native, roots, wheels
from freezing.targets import ROOT, STORE, TARGETS, Target, call, say

_BOOTLOADERS = {"amd64": "Linux-64bit-intel", "arm64": "Linux-64bit-arm", "armhf": "Linux-32bit-arm"}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def release(target: Target, *, profile: bool) -> dict[str, Any]:
    """What the tree says of itself; `schema` is the newest of the database that it reads, `epoch` the commit's time."""
    from pinnace.core.base.version import VERSION
    from pinnace.core.meta.database import SCHEMA

    return {
        "version": VERSION,
        "arch": target.arch,
        "schema": SCHEMA,
        "commit": git("rev-parse", "HEAD") or "unknown",
        "epoch": int(git("log", "-1", "--format=%ct") or 0),
        "profile": profile,
    }


def recipe(target: Target, made: Sequence[Path], *, profile: bool) -> dict[str, Any]:
    """What the spec asks; `bundled` says which Debian package something was made from that PyInstaller did not find by itself."""
    plugins = [f"cni/{name}" for name in bundle.PLUGINS]
    return {
        "entry": "entry_profile.py" if profile else "entry_edge.py",
        "hidden": ["pinnace_allocators"] if profile else [],
        "bootloader": _BOOTLOADERS[target.arch],
        "compiled": {each.name.partition("-")[0]: (each / "version").read_text() for each in made},
        "bundled": {
            "openssl": ["bin/openssl"], "containernetworking-plugins": plugins, "ca-certificates": ["cacert.pem"],
            "musl-dev": ["pinnace/core/pods/oci/shim/pinnace-shim"], "libc6-dev": ["bin/crun"],
            "libseccomp-dev": ["bin/crun"], "libcap-dev": ["bin/crun"],
        },
    }  # fmt: skip


def lay_out(target: Target, work: Path, log: Path, *, profile: bool) -> tuple[Path, dict[str, Any]]:
    """Everything that PyInstaller takes, below `work`; the root it runs in, and the release."""
    root = roots.building(target)
    third_party = wheels.third_party(target, root)
    made = [native.crun(target, root), native.mosquitto(target, root)]
    site = work / "site"
    shutil.copytree(third_party, site, symlinks=True)
    for package in ("core", "ext", "mappers"):
        left_out = shutil.ignore_patterns("*.so", "__pycache__", "*.c", "*.h", "pinnace-shim", "*.pxd")
        shutil.copytree(ROOT / package, site / "pinnace" / package, ignore=left_out)
    say(f"compiling for {target.arch}")
    native.extensions(target, root, work, site, profile=profile, log=log)
    native.shim(target, root, work, site / "pinnace/core/pods/oci/shim/pinnace-shim", log)
    bundle.collect(target, root, [each / each.name.partition("-")[0] for each in made], work / "bundle", log)
    told = release(target, profile=profile)
    asked = recipe(target, made, profile=profile)
    shutil.copytree(ROOT / "packaging/systemd", work / "systemd")
    if profile:
        native.allocators(target, root, ROOT / "packaging/profile/allocators.c", site, log)
    for name in ("edge.spec", "freezing/docstrings.py", "freezing/licences.py", f"{'profile/' if profile else ''}{asked['entry']}"):
        shutil.copyfile(ROOT / "packaging" / name, work / Path(name).name)
    shutil.copyfile(ROOT / "LICENSE", work / "LICENSE")
    for each in made:
        shutil.copytree(each, work / "licences" / each.name.partition("-")[0])
    shutil.copyfile(root / "packages.json", work / "packages.json")
    (work / "release.json").write_text(json.dumps(told, indent=1) + "\n")
    (work / "recipe.json").write_text(json.dumps(asked))
    return root, told


def freeze(target: Target, work: Path, *, profile: bool) -> Path:
    """The folder with both shapes, tested."""
    log = STORE / f"freeze-{target.arch}{'-profile' if profile else ''}.log"
    log.unlink(missing_ok=True)
    root, told = lay_out(target, work, log, profile=profile)
    say(f"PyInstaller for {target.arch}{', emulated: this takes some minutes' if target.is_emulated else ''}")
    steady = {
        "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(told["epoch"]), "PYTHONPATH": "/build/site", "PYTHONDONTWRITEBYTECODE": "1",
        "PYINSTALLER_CONFIG_DIR": "/build/tmp/cache", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/build/tmp", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    (work / "tmp").mkdir()
    enter = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "sh", ROOT / "packaging/freezing/inside.sh", root, work]
    assignments = [f"{name}={value}" for name, value in steady.items()]
    tool = ["python3", "-m", "PyInstaller", "--noconfirm", "--log-level", "INFO", "--workpath", "/build/tmp", "--distpath", "/build/dist"]
    call([*enter, "env", "-i", *assignments, *tool, "/build/edge.spec"], log=log)
    made = work / "dist"
    one_file = made / f"pinnace-{told['version']}-{target.arch}"
    one_file.chmod(0o755)
    shutil.copyfile(work / "release.json", made / "release.json")
    say("checking both shapes in a bare system")
    newest = checks.check_linkage(made / "pinnace", target)
    bare = roots.bare(target)
    for program in ("dist/pinnace/pinnace", f"dist/{one_file.name}"):
        checks.check_selftest(bare, work, program, log)
    if not profile:
        checks.check_size(one_file)
    say(f"needs glibc {newest[0]}.{newest[1]}")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="freezing", description=__doc__)
    parser.add_argument("--arch", choices=sorted(TARGETS), default=next(each.arch for each in TARGETS.values() if not each.is_emulated))
    parser.add_argument("--profile", action="store_true", help="the variant that can be traced")
    parser.add_argument("--into", type=Path, help="another folder than dist/ARCH")
    parser.add_argument("--anew", action="store_true", help="compile and fetch what is kept between runs again, but for the roots")
    args = parser.parse_args()
    target = TARGETS[args.arch]
    for each in STORE.glob("*") if args.anew else ():
        if each.name.startswith(tuple(f"{name}-{target.arch}-" for name in ("crun", "mosquitto", "wheels"))):
            shutil.rmtree(each)
    name = args.arch + ("-profile" if args.profile else "")
    work = STORE / f"work-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    made = freeze(target, work, profile=args.profile)
    into = args.into or ROOT / "dist" / name
    into.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(into, ignore_errors=True)
    made.rename(into)
    shutil.rmtree(work)
    tree = into / "pinnace"
    files = [each for each in tree.rglob("*") if each.is_file() and not each.is_symlink()]
    size = sum(each.stat().st_size for each in files)
    one_file = next(each for each in into.iterdir() if each.name.startswith("pinnace-"))
    print(f"{tree}: {size / 1e6:.1f} MB, {len(files)} files")
    print(f"{one_file}: {one_file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
