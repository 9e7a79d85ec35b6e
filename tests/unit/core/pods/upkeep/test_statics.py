"""The folder of static pods: what appears, changes, breaks and goes."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.clock import FakeClock

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.pod import Pod
from pinnace.core.pods.upkeep.statics import StaticPods

YAML = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{since: 2026-01-01}}}}
spec:
  containers:
    - {{name: app, image: "{image}"}}
"""


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[list[str]] = []
        self.pods: list[Pod] = []
        self.statics = StaticPods(folder, NodeName("pi"), self._tell, look_seconds=20, clock=FakeClock())

    def _tell(self, pods: Sequence[Pod]) -> None:
        self.pods = list(pods)
        self.told.append([each.name for each in pods])

    def write(self, file: str, name: str = "web", image: str = "app:1") -> None:
        (self.folder / file).write_text(YAML.format(name=name, image=image))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_files_come_change_and_go(stage: Stage) -> None:
    await stage.statics.look()
    assert stage.told == [[]], "the first look tells that there is none"
    stage.write("web.yaml")
    (stage.folder / "dns.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "dns"}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    )
    stage.write(".hidden.yaml", "hidden")
    stage.write("notes.txt", "notes")
    await stage.statics.look()
    await stage.statics.look()
    assert stage.told[1:] == [["dns-pi", "web-pi"]], "nothing new, nothing told"
    assert stage.pods[1].labels == {"since": "2026-01-01"}, "a date is a text, as for the API"
    uid = stage.pods[1].uid
    stage.write("web.yaml", image="app:2")
    await stage.statics.look()
    assert stage.pods[1].uid != uid
    (stage.folder / "dns.json").unlink()
    await stage.statics.look()
    assert stage.told[-1] == ["web-pi"]


async def test_a_touched_file_is_the_same_pod(stage: Stage) -> None:
    stage.write("web.yaml")
    await stage.statics.look()
    stage.write("web.yaml")
    await stage.statics.look()
    assert len(stage.told) == 1


async def test_a_link_that_leads_to_itself_hides_no_other_file(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    (stage.folder / "circle.yaml").symlink_to("circle.yaml")
    stage.write("web.yaml")
    await stage.statics.look()
    await stage.statics.look()
    assert stage.told == [["web-pi"]]
    assert caplog.text.count("pods.static.refused") == 1, "said once"
    (stage.folder / "circle.yaml").unlink()
    stage.write("circle.yaml", "other")
    await stage.statics.look()
    assert stage.told[-1] == ["other-pi", "web-pi"]
    (stage.folder / "circle.yaml").unlink()
    (stage.folder / "circle.yaml").symlink_to("circle.yaml")
    await stage.statics.look()
    assert len(stage.told) == 2, "the pod of its former content stays"


@pytest.mark.parametrize("content", ["a: [", "kind: Pod\n", "\x00\xff", "a: &a [*a]\n", "- " * 5000, "{" * 3000, "x" * (2 << 20)])
async def test_a_broken_file_is_said_once_and_its_pod_stays(stage: Stage, caplog: pytest.LogCaptureFixture, content: str) -> None:
    stage.write("web.yaml")
    stage.write("other.yaml", "other")
    await stage.statics.look()
    (stage.folder / "web.yaml").write_text(content)
    await stage.statics.look()
    await stage.statics.look()
    assert caplog.text.count("pods.static.refused") == 1
    assert "former content stays" in caplog.text
    assert stage.told == [["other-pi", "web-pi"]]
    stage.write("web.yaml", image="app:3")
    await stage.statics.look()
    assert stage.pods[1].containers[0].image == "app:3"


async def test_a_broken_new_file_hinders_no_other(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    (stage.folder / "a.yaml").write_text("no pod")
    (stage.folder / "dir.yaml").mkdir()
    stage.write("web.yaml")
    stage.write("zweb.yaml")
    await stage.statics.look()
    await stage.statics.look()
    assert stage.told == [["web-pi"]]
    assert caplog.text.count("pods.static.refused") == 2
    assert caplog.text.count("pods.static.doubled") == 1


async def test_a_missing_folder_is_an_empty_one_and_an_unreadable_one_changes_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "manifests")
    await stage.statics.look()
    assert stage.told == [[]]
    stage.folder.mkdir()
    stage.write("web.yaml")
    await stage.statics.look()
    stage.folder.rename(tmp_path / "moved")
    (tmp_path / "manifests").write_text("a file")
    await stage.statics.look()
    assert stage.told[-1] == ["web-pi"]


async def test_a_folder_that_was_never_read_says_nothing_about_pods_that_may_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.write("web.yaml")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        await stage.statics.look()
    assert stage.told == []
    await stage.statics.look()
    assert stage.told == [["web-pi"]]


async def test_what_is_no_folder_holds_no_pods(tmp_path: Path) -> None:
    (tmp_path / "manifests").write_text("a file")
    stage = Stage(tmp_path / "manifests")
    await stage.statics.look()
    assert stage.told == [[]]


async def test_what_could_not_be_told_is_told_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.write("web.yaml")

    def refuse(pods: Sequence[Pod]) -> None:
        raise RuntimeError("not now")

    monkeypatch.setattr(stage.statics, "_tell", refuse)
    with pytest.raises(RuntimeError):
        await stage.statics.look()
    monkeypatch.undo()
    await stage.statics.look()
    assert stage.told == [["web-pi"]]
