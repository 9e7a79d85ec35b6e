"""What looks after containers, over each real runtime: probes, rotation while a container writes, collecting, usage."""

from __future__ import annotations

import gzip
from pathlib import Path

from contract.runtime.pods import TestPod, log_lines, until
from fakes.clock import FakeClock
from fakes.podcontrol import FakePodControl

from pinnace.core.base.containerlogs import pieces
from pinnace.core.base.pod import Container, Pod
from pinnace.core.base.runtime import POD_UID_LABEL, ContainerState
from pinnace.core.pods.probes.looks import Looks, Target
from pinnace.core.pods.rules.probing import Outcome
from pinnace.core.pods.upkeep.collecting import ContainerCollector
from pinnace.core.pods.upkeep.logs import LogRotation
from pinnace.core.pods.upkeep.measuring import Measures

ME = Container({"name": "c0"}, is_init=False)


class NoCounts:
    def working_set(self, pod_uid: str) -> int:
        return 0

    def tasks(self, pod_uid: str) -> int:
        return 0


def here(pod: TestPod) -> Pod:
    return Pod({"metadata": {"name": f"pod-{pod.uid}", "uid": pod.uid}, "spec": {"containers": [{"name": "c0"}]}})


async def test_exec_probes(pod: TestPod) -> None:
    container_id = await pod.start()
    looks, target = Looks(pod.runtime), Target(ME, container_id, "")
    seen = await looks.look("exec", {"command": ["sh", "-c", "echo fine"]}, target, 20)
    assert seen == (Outcome.SUCCESS, "fine\n")
    seen = await looks.look("exec", {"command": ["sh", "-c", "echo ill >&2; exit 3"]}, target, 20)
    assert seen == (Outcome.FAILURE, "ill\n")
    seen = await looks.look("exec", {"command": ["sleep", "1000"]}, target, 1)
    assert seen.outcome is Outcome.FAILURE
    assert "timed out after 1 s" in seen.message
    seen = await looks.look("exec", {"command": ["no-such-program"]}, target, 20)
    assert seen.outcome in (Outcome.FAILURE, Outcome.UNKNOWN)
    await pod.runtime.stop_container(container_id, 0)
    seen = await looks.look("exec", {"command": ["true"]}, target, 20)
    assert seen.outcome is Outcome.UNKNOWN, "a container that has ended is neither well nor ill"


async def test_no_line_is_lost_while_logs_rotate(pod: TestPod) -> None:
    clock = FakeClock()
    container_id = await pod.shell("seq 1 30000; while ! test -e /tmp/go; do sleep 0.02; done; seq 30001 60000; echo end; sleep 1000")
    await pod.until_said(container_id, "F 30000\n")
    log = (await pod.runtime.container(container_id)).log_path
    rotation = LogRotation(pod.runtime, max_size="64Ki", max_files=9, clock=clock)
    await rotation.look()
    assert len(pieces(log)) == 1
    await pod.exec(container_id, "touch /tmp/go")

    async def has_ended_in_small_files() -> bool:
        await clock.advance(1)
        await rotation.look()
        return any("F end" in _text(each) for each in (*pieces(log), log))

    await until(has_ended_in_small_files, what="the last line")
    lines = [line.split(" ", 3) for each in (*pieces(log), log) for line in _text(each).splitlines()]
    said = "".join(text + ("" if tag.startswith("P") else "\n") for _, _, tag, text in lines)
    assert said.split() == [*map(str, range(1, 60001)), "end"]
    await clock.advance(1)
    await rotation.look()
    assert log.stat().st_size < 64 << 10


async def test_dead_containers_go_and_the_newest_stays(pod: TestPod, tmp_path: Path) -> None:
    labels = {POD_UID_LABEL: pod.uid}
    first = await pod.run(("true",), name="c0", labels=labels, log_path="c0/0.log")
    second = await pod.run(("false",), name="c0", attempt=1, labels=labels, log_path="c0/1.log")
    third = await pod.start(name="c0", attempt=2, labels=labels, log_path="c0/2.log")
    others = {each.id for each in await pod.runtime.containers() if each.labels.get(POD_UID_LABEL) != pod.uid}
    everyone = [Pod({"metadata": {"uid": each.labels.get(POD_UID_LABEL, "")}}) for each in await pod.runtime.containers()]
    collector = ContainerCollector(pod.runtime, FakePodControl(here(pod), *everyone), tmp_path / "none")
    await collector.collect()
    assert {each.id for each in await pod.runtime.containers(pod.uid)} == {second.id, third}
    assert others <= {each.id for each in await pod.runtime.containers()}
    assert log_lines(second.log_path) == []
    assert not first.log_path.exists()


async def test_what_a_pod_takes_is_measured(pod: TestPod, tmp_path: Path) -> None:
    container_id = await pod.shell(
        "head -c 8000000 /dev/zero | tr '\\0' x > /tmp/file; echo written; sleep 1000", name="c0", labels={POD_UID_LABEL: pod.uid}
    )
    await pod.until_said(container_id, "written")
    assert (await pod.runtime.container(container_id)).state is ContainerState.RUNNING
    measures = Measures(pod.runtime, NoCounts(), pods_dir=tmp_path, logs_dir=tmp_path)

    async def is_seen() -> bool:
        (use,) = await measures.uses([here(pod)], with_disk=True)
        return bool(use.containers) and use.containers[0].memory > 0 and use.disk >= 8_000_000

    await until(is_seen, what="the file in the pod's usage")
    levels = await measures.levels()
    assert 0 < levels["imagefs.available"].available <= levels["imagefs.available"].capacity


def _text(path: Path) -> str:
    if path.suffix == ".gz":
        with gzip.open(path, "rt") as packed:
            return packed.read()
    return path.read_text() if path.exists() else ""
