"""What of a node's configuration follows the wishes, and when it must join anew. With certificates: the hub's integration tests."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml

from pinnace.core.appliance.settling import join_flags
from pinnace.core.appliance.wishes import Ports, Wishes
from pinnace.core.commands import join
from pinnace.core.commands.parts import joined
from pinnace.core.commands.parts.joined import Joined

TOKEN = f"{'0' * 64}.eyJh.eyJl.c2lnbmF0dXJl"
BEFORE = Wishes("10.0.0.1", TOKEN, labels={"place": "roof"})


def joined_as(folder: Path, wishes: Wishes, name: str = "pi-1") -> Joined:
    parser = argparse.ArgumentParser()
    join.add_arguments(parser)
    wished = join.configuration(parser.parse_args([*join_flags(wishes, name), "--root", str(folder)]), name)
    config = folder / join.CONFIG
    if not config.exists():
        join.write(config, wished)
    return Joined(config, wished)


def tree(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((folder / join.CONFIG).read_text())
    return found


@pytest.mark.parametrize("labels", [{"place": "cellar", "kind": "pi"}, {}])
def test_labels_and_tunnel_follow_and_what_a_person_wrote_stays(tmp_path: Path, labels: dict[str, str]) -> None:
    joined_as(tmp_path, BEFORE)
    written = tree(tmp_path)
    written["modules"]["edged"]["maxPerPodContainerCount"] = 3
    join.write(tmp_path / join.CONFIG, written)
    now = joined_as(tmp_path, Wishes("10.0.0.1", TOKEN, labels=labels, ports=Ports(tunnel=20004)))
    assert now.follow() is True
    assert tree(tmp_path)["modules"]["edged"].get("nodeLabels", {}) == labels
    assert tree(tmp_path)["modules"]["edgeStream"]["server"] == "10.0.0.1:20004"
    assert tree(tmp_path)["modules"]["edged"]["maxPerPodContainerCount"] == 3
    assert tree(tmp_path)["modules"]["edgeHub"] == written["modules"]["edgeHub"]
    assert now.follow() is False


@pytest.mark.parametrize(
    ("wishes", "name"),
    [
        (Wishes("10.0.0.2", TOKEN), "pi-1"),
        (Wishes("10.0.0.1", TOKEN), "pi-2"),
        (Wishes("10.0.0.1", TOKEN, ports=Ports(hub=20000)), "pi-1"),
        (Wishes("10.0.0.1", TOKEN, ports=Ports(bootstrap=20002)), "pi-1"),
    ],
)
def test_another_cloud_name_or_port_asks_for_another_certificate(tmp_path: Path, wishes: Wishes, name: str) -> None:
    joined_as(tmp_path, BEFORE)
    assert "others than before" in joined_as(tmp_path, wishes, name).flaw("")


def test_a_node_without_its_certificates_joins_anew(tmp_path: Path) -> None:
    assert "rootCA.crt does not exist" in joined_as(tmp_path, BEFORE).flaw("")
    assert "rootCA.crt: cannot be read" in joined_as(tmp_path, BEFORE).flaw(TOKEN)


@pytest.mark.parametrize("text", ["", "modules: 7\n", "modules: {edged: 7}\n", "{", "modules:\n  edgeHub: {}\n"])
def test_a_configuration_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    now = joined_as(tmp_path, BEFORE)
    assert joined.name(tmp_path / join.CONFIG) == "pi-1"
    (tmp_path / join.CONFIG).write_text(text)
    assert now.flaw("")
    assert joined.name(tmp_path / join.CONFIG) == ""
    (tmp_path / join.CONFIG).unlink()
    assert "cannot be read" in now.flaw("")
