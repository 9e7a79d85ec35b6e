"""The built-in runtime: milliseconds to a running container, and what supervision takes of memory, beside conmon in the same run.

    python tests/bench/runtime_start.py [--json FILE]

Needs root and crun. Runs in a network namespace of its own, so that nothing of the machine's network is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contract.runtime.pods import TestPod, remove_cgroups
from rig.figures import arguments, percentiles, report
from rig.images import busybox
from rig.oci import OciHome

from pinnace.core.base.runtime import Namespaces
from pinnace.core.pods.oci.runtime import OciRuntime

IMAGE = "pinnace.test/busybox:1"
CGROUP = "/pinnace-bench"
ROUNDS = 30
COUNTS = (1, 11, 50)
INSIDE = "PINNACE_BENCH_INSIDE"


def pss(pid: int) -> int:
    """Kilobytes, by smaps_rollup (proc(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def starts(runtime: OciRuntime, folder: Path, spaces: Namespaces) -> dict[str, float]:
    """run_sandbox + create_container + start_container of one pod after the other."""
    times: dict[str, list[float]] = {"sandbox": [], "create": [], "start": [], "whole": []}
    for _ in range(ROUNDS):
        pod = TestPod(runtime, folder, CGROUP)
        begun = time.perf_counter()
        await pod.sandbox(namespaces=spaces)
        made = time.perf_counter()
        container_id = await pod.create(("sleep", "1000"), image=IMAGE)
        created = time.perf_counter()
        await runtime.start_container(container_id)
        running = time.perf_counter()
        for name, spent in (
            ("sandbox", made - begun),
            ("create", created - made),
            ("start", running - created),
            ("whole", running - begun),
        ):
            times[name].append(spent)
        await pod.remove()
        remove_cgroups(pod.cgroup)
    return {f"{name}_p50_ms": round(sorted(each)[ROUNDS // 2] * 1000, 1) for name, each in times.items()} | {
        f"whole_{name}": value for name, value in percentiles(times["whole"]).items()
    }


async def execs(runtime: OciRuntime, folder: Path) -> dict[str, float]:
    pod = TestPod(runtime, folder, CGROUP)
    container_id = await pod.start(image=IMAGE)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await runtime.exec_sync(container_id, ("true",), 30)
        times.append(time.perf_counter() - begun)
    await pod.remove()
    return {f"exec_{name}": value for name, value in percentiles(times).items()}


async def supervision(runtime: OciRuntime, home: OciHome, folder: Path) -> dict[str, Any]:
    """Kilobytes of PSS a container, with so many of them."""
    pods: list[TestPod] = []
    found: dict[str, Any] = {}
    for count in COUNTS:
        while len(pods) < count:
            pods.append(TestPod(runtime, folder, CGROUP))
            await pods[-1].start(image=IMAGE)
        each = [pss(pid) for pid in home.shims().values()]
        assert len(each) == count
        found[f"shim_pss_kb_of_{count}"] = round(sum(each) / count, 1)
    for pod in pods:
        await pod.remove()
        remove_cgroups(pod.cgroup)
    return found


def conmon(folder: Path, rootfs: Path, count: int) -> dict[str, Any]:
    """The same for conmon, each with a sleeping container of crun."""
    if shutil.which("conmon") is None:
        return {}
    hide = "mount --make-private /sys/fs/cgroup; umount /sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").exists() else "true"
    for number in range(count):
        bundle = folder / f"bundle{number}"
        bundle.mkdir()
        config = {
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sleep", "1000"], "env": ["PATH=/bin"], "cwd": "/"},
            "root": {"path": str(rootfs)},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}], "cgroupsPath": f"{CGROUP}/conmon{number}"},
        }
        (bundle / "config.json").write_text(json.dumps(config))
        name = f"bench{number}"
        words = ["conmon", "-c", name, "-u", name, "-r", shutil.which("crun") or "crun", "-b", str(bundle), "-p", str(bundle / "pid")]
        words += [
            "-l",
            f"k8s-file:{bundle / 'log'}",
            "--exit-dir",
            str(bundle),
            "--socket-dir-path",
            str(bundle),
            "--persist-dir",
            str(bundle),
        ]
        words += ["--runtime-arg=--root", f"--runtime-arg={folder / 'crun'}", "--conmon-pidfile", str(bundle / "conmon")]
        subprocess.run(["unshare", "--mount", "sh", "-c", f'{hide}; exec "$@"', "sh", *words], check=True)
    pids = []
    try:
        for number in range(count):
            bundle = folder / f"bundle{number}"
            deadline = time.monotonic() + 20
            while not (bundle / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            pids.append((int((bundle / "conmon").read_text()), int((bundle / "pid").read_text())))
        return {f"conmon_pss_kb_of_{count}": round(sum(pss(pid) for pid, _ in pids) / count, 1)}
    finally:
        for supervisor, container in pids:
            for pid in (container, supervisor):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def measure() -> dict[str, Any]:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as name, OciHome({IMAGE: busybox()}, default_network=True) as home:
        folder = Path(name)
        runtime = home.adapter()
        await runtime.start()
        try:
            found: dict[str, Any] = {
                "host_network": await starts(runtime, folder, Namespaces(host_network=True)),
                "own_network": await starts(runtime, folder, Namespaces()),
                **await execs(runtime, folder),
                **await supervision(runtime, home, folder),
            }
            image = await home.images.image(IMAGE)
            assert image is not None
            for count in COUNTS[:2]:
                (folder / f"conmon{count}").mkdir()
                found |= await asyncio.to_thread(conmon, folder / f"conmon{count}", home.images.layers(image.id)[0], count)
            if "conmon_pss_kb_of_11" in found:
                found["conmon_to_shim_of_11"] = round(found["conmon_pss_kb_of_11"] / found["shim_pss_kb_of_11"], 1)
        finally:
            await runtime.close()
            remove_cgroups(CGROUP)
    return found


def main() -> int:
    args = arguments(__doc__).parse_args()
    if not os.environ.get(INSIDE):
        if os.geteuid() != 0 or shutil.which("crun") is None:
            print("runtime_start: needs root and crun; skipped")  # noqa: T201
            return 0
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    return report(uvloop.run(measure()), args.json)


if __name__ == "__main__":
    sys.exit(main())
