"""The section `modules.edgeHub`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnace.core.base.errors import ConfigError
from pinnace.core.base.settings.loader import load
from pinnace.core.hub.settings import EdgeHubSettings, Endpoint


def read(tmp_path: Path, text: str) -> EdgeHubSettings:
    path = tmp_path / "edgehub.yaml"
    path.write_text(text)
    return load(path, EdgeHubSettings)


def test_defaults_are_kubeedges() -> None:
    found = EdgeHubSettings()
    assert found.heartbeat == 15
    assert found.project_id == "e632aba927ea4ac2b575ec1603d56f10"
    assert found.tls_ca_file == Path("/etc/kubeedge/ca/rootCA.crt")
    assert found.rotate_certificates


def test_reads_kubeedges_keys(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "heartbeat: 5\nhttpServer: https://[2001:db8::1]:1234\nprojectID: p\ntlsCaFile: /ca\ntlsCertFile: /crt\ntlsPrivateKeyFile: /key\n"
        "token: secret\nrotateCertificates: false\nquic: {enable: false, server: 'x:1'}\n"
        "websocket: {enable: true, server: cloud.example.com, handshakeTimeout: 3, readDeadline: 1, writeDeadline: 2}\n",
    )
    assert found.bootstrap == Endpoint("2001:db8::1", 1234)
    assert str(found.bootstrap) == "[2001:db8::1]:1234"
    assert found.websocket.endpoint == Endpoint("cloud.example.com", 10000)
    assert (found.tls_ca_file, found.tls_cert_file, found.tls_private_key_file) == (Path("/ca"), Path("/crt"), Path("/key"))
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("heartbeat: 0\n", ":1: heartbeat: expected seconds above 0"),
        ("httpServer: http://x:1\n", ":1: httpServer: expected https://<host>:<port>"),
        ("httpServer: https://x:1/path\n", ":1: httpServer: expected https"),
        ("httpServer: https://x:99999\n", ":1: httpServer: expected https"),
        ("projectID: ''\n", ":1: projectID: expected letters"),
        ("projectID: a/b\n", ":1: projectID: expected letters"),
        ("websocket: {enable: false}\n", ":1: websocket.enable: expected true"),
        ("websocket: {server: 'a/b'}\n", ":1: websocket.server: expected <host>:<port>"),
        ("websocket: {server: ''}\n", ":1: websocket.server: expected <host>:<port>"),
        ("websocket: {writeDeadline: 0}\n", ":1: websocket.writeDeadline: expected seconds above 0"),
        ("quic: {enable: true}\n", ":1: quic.enable: expected false"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)
