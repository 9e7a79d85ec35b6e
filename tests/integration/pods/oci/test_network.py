"""Networks of pods: real CNI plugins, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod, until
from rig.oci import OciHome

from pinnace.core.base.runtime import Namespaces, RuntimeFailed
from pinnace.core.pods.oci import runtime as oci
from pinnace.core.pods.oci.runtime import OciRuntime

pytestmark = [pytest.mark.containers, pytest.mark.root]
TESTS = Path(__file__).parents[3]


async def test_default_network_host_ports_and_addresses_after_a_reboot(home: OciHome) -> None:
    child = await asyncio.create_subprocess_exec(
        *("unshare", "--net", sys.executable, str(Path(__file__).with_name("network_machine.py"))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    said, _ = await child.communicate()
    assert child.returncode == 0, said.decode()


async def test_what_the_network_lacks_is_told(home: OciHome, tmp_path: Path) -> None:
    (tmp_path / "net.d").mkdir()
    lacking = replace(home.settings, cni_bin_dirs=(tmp_path,), cni_conf_dir=tmp_path / "net.d")
    runtime = OciRuntime(lacking, home.images)
    assert "bridge, portmap, host-local are not in" in (await runtime.state()).network_problem
    (tmp_path / "net.d/10-bad.conflist").write_text("{")
    assert "10-bad.conflist" in (await runtime.state()).network_problem


async def test_plugin_that_fails_says_why_and_the_sandbox_is_not_there(runtime: OciRuntime, pod: TestPod, home: OciHome) -> None:
    conflist = next(home.settings.cni_conf_dir.iterdir())
    good = conflist.read_text()
    conflist.write_text(good.replace("host-local", "no-such"))
    try:
        with pytest.raises(RuntimeFailed, match="no-such") as caught:
            await pod.sandbox(namespaces=Namespaces())
        assert caught.value.reason == "CreatePodSandboxError"
    finally:
        conflist.write_text(good)
    assert await runtime.sandboxes(pod.uid) == []
    assert home.mounts() == [str(home.settings.run_dir / "oci")]


MOODY = """#!/bin/sh
cat >/dev/null
[ -e {well} ] && echo '{{}}' && exit
echo '{{"code": 11, "msg": "not now"}}'
exit 1
"""


class Elsewhere:
    """A runtime with folders and a network of its own."""

    def __init__(self, home: OciHome, folder: Path) -> None:
        self.plugins, networks = folder / "bin", folder / "net.d"
        for each in (self.plugins, networks):
            each.mkdir()
        (networks / "10-moody.conf").write_text(json.dumps({"cniVersion": "0.4.0", "name": "moody", "type": "moody"}))
        self.settings = replace(
            home.settings, root_dir=folder / "root", run_dir=folder / "run", cni_bin_dirs=(self.plugins,), cni_conf_dir=networks
        )
        self.runtime = OciRuntime(self.settings, home.images)

    def sandboxes(self) -> list[Path]:
        return [each for folder in (self.settings.root_dir, self.settings.run_dir) for each in (folder / "oci/sandboxes").iterdir()]


@pytest.fixture
async def elsewhere(home: OciHome, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    monkeypatch.setattr(oci, "_RETRY_SECONDS", 0.01)
    (folder := home.folder / "elsewhere").mkdir()
    made = Elsewhere(home, folder)
    await made.runtime.start()
    running = asyncio.create_task(made.runtime.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await made.runtime.close()
    home.power_cut()
    shutil.rmtree(folder)


async def test_a_sandbox_whose_network_plugins_are_missing_leaves_nothing(elsewhere: Elsewhere, tmp_path: Path, cgroup: str) -> None:
    pod = TestPod(elsewhere.runtime, tmp_path, cgroup)
    with pytest.raises(RuntimeFailed, match="the network plugins moody are not in"):
        await pod.sandbox(namespaces=Namespaces())
    assert elsewhere.sandboxes() == []


async def test_sandboxes_that_cannot_be_undone_are_as_soon_as_they_can(elsewhere: Elsewhere, tmp_path: Path, cgroup: str) -> None:
    pod, well = TestPod(elsewhere.runtime, tmp_path, cgroup), tmp_path / "well"
    (elsewhere.plugins / "moody").write_text(MOODY.format(well=well))
    (elsewhere.plugins / "moody").chmod(0o755)
    for _ in range(2):
        with pytest.raises(RuntimeFailed, match="ADD of the network plugin moody failed: not now"):
            await pod.sandbox(namespaces=Namespaces())
    assert len(elsewhere.sandboxes()) == 2 * 2
    assert await elsewhere.runtime.sandboxes() == []
    well.touch()

    async def are_gone() -> bool:
        return elsewhere.sandboxes() == []

    await until(are_gone, what="the end of what was left")
