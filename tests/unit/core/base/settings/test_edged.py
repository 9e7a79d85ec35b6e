"""The section `modules.edged`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.settings.edged import EdgedSettings, seconds
from pinnace.core.base.settings.loader import load


@pytest.mark.parametrize(("text", "value"), [("10s", 10), ("5m0s", 300), ("1h", 3600), ("1h2m3.5s", 3723.5), ("0s", 0)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "5 m", "1m1h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def read(tmp_path: Path, text: str) -> EdgedSettings:
    path = tmp_path / "edged.yaml"
    path.write_text(text)
    return load(path, EdgedSettings)


def test_reads_kubeedges_keys(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "hostnameOverride: pi\nnodeIP: 192.0.2.7\nnodeLabels: {zone: a, example.com/rack: ''}\nregisterSchedulable: false\n"
        "tailoredKubeletConfig:\n  nodeStatusUpdateFrequency: 20s\n  nodeLeaseDurationSeconds: 20\n"
        "  registerWithTaints: [{key: k, value: v, effect: NoSchedule}]\n",
    )
    assert (found.hostname_override, found.node_ip, dict(found.node_labels)) == ("pi", "192.0.2.7", {"zone": "a", "example.com/rack": ""})
    assert found.tailored_kubelet_config.node_lease_duration_seconds == 20
    assert found.tailored_kubelet_config.register_with_taints == ({"key": "k", "value": "v", "effect": "NoSchedule"},)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nodeIP: here\n", ":1: nodeIP: expected an IP address"),
        ("nodeLabels: {'a b': c}\n", ":1: nodeLabels: expected Kubernetes labels"),
        ("nodeLabels: {a: 'b c'}\n", ":1: nodeLabels: expected Kubernetes labels"),
        (
            "tailoredKubeletConfig:\n  nodeStatusUpdateFrequency: soon\n",
            ":2: tailoredKubeletConfig.nodeStatusUpdateFrequency: expected",
        ),
        (
            "tailoredKubeletConfig:\n  nodeStatusReportFrequency: 0s\n",
            ":2: tailoredKubeletConfig.nodeStatusReportFrequency: expected",
        ),
        ("tailoredKubeletConfig:\n  nodeLeaseDurationSeconds: 0\n", ":2: tailoredKubeletConfig.nodeLeaseDurationSeconds: expected seconds"),
        ("tailoredKubeletConfig:\n  registerWithTaints: [{key: k}]\n", "registerWithTaints: expected a list of"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)
