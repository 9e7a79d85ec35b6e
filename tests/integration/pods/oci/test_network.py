"""Networks of pods: real CNI plugins, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from contract.runtime.pods import TestPod
from rig.oci import OciHome

from pinnace.core.base.runtime import Namespaces, RuntimeFailed
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
