"""cloudcore.yaml as KubeEdge writes it is understood, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.cloud.settings import CloudCoreSettings
from pinnace.core.base.errors import ConfigError
from pinnace.core.base.settings.loader import load

UPSTREAM = """
apiVersion: cloudcore.config.kubeedge.io/v1alpha2
kind: CloudCore
commonConfig:
  tunnelPort: 10351
kubeAPIConfig:
  kubeConfig: /root/.kube/config
  master: ""
  qps: 100
modules:
  cloudHub:
    advertiseAddress: [10.0.0.1]
    dnsNames: [""]
    edgeCertSigningDuration: 365
    https: {enable: true, address: 0.0.0.0, port: 10002}
    keepaliveInterval: 30
    nodeLimit: 1000
    websocket: {enable: true, address: 0.0.0.0, port: 10000}
    tlsCAFile: /etc/kubeedge/ca/rootCA.crt
  cloudStream: {enable: true}
"""


def settings(tmp_path: Path, text: str) -> CloudCoreSettings:
    path = tmp_path / "cloudcore.yaml"
    path.write_text(text)
    return load(path, CloudCoreSettings)


def test_upstreams_file_is_understood(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = settings(tmp_path, UPSTREAM)
    assert read.kube_api_config.file == Path("/root/.kube/config")
    assert read.modules.cloud_hub.advertise_address == ("10.0.0.1",)
    assert read.modules.cloud_hub.https.port == 10002
    assert read.modules.cloud_hub.node_limit == 1000
    unused = [record.getMessage().split("key=")[1].split(":")[0] for record in caplog.records]
    assert unused == ["commonConfig", "kubeAPIConfig.qps"]
    assert (read.modules.cloud_stream.stream_port, read.modules.cloud_stream.tunnel_port) == (10003, 10004)


def test_defaults_need_no_file() -> None:
    read = load(None, CloudCoreSettings)
    assert read.kube_api_config.file is None
    assert read.modules.conversion.service_parts() is None
    assert read.data_dir is None


def test_a_service_is_taken_apart(tmp_path: Path) -> None:
    read = settings(tmp_path, "modules: {conversion: {service: 'kubeedge/cloudcore:10009'}}")
    assert read.modules.conversion.service_parts() == ("kubeedge", "cloudcore", 10009)
    read = settings(tmp_path, "modules: {conversion: {service: kubeedge/cloudcore}}")
    assert read.modules.conversion.service_parts() == ("kubeedge", "cloudcore", 443)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("modules:\n  conversion:\n    port: 70000\n", r":3: modules\.conversion\.port: expected a port"),
        ("modules:\n  conversion:\n    url: http://x\n", r":3: modules\.conversion\.url: expected https://host:port"),
        ("modules:\n  conversion:\n    service: nowhere\n", r":3: modules\.conversion\.service: expected <namespace>/<name>"),
        ("modules:\n  conversion:\n    service: 'a/b:c'\n", r":3: modules\.conversion\.service: expected"),
        ("kubeAPIConfig:\n  kubeConfig: 5\n", r":2: kubeAPIConfig\.kubeConfig: expected a text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        settings(tmp_path, text)
