"""The certificate authority: kept between starts, renewed when names change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509

from pinnace.cloud.standalone.pki import Authority
from pinnace.core.base.errors import ConfigError


def test_the_authority_is_kept(tmp_path: Path) -> None:
    first = Authority(tmp_path)
    assert Authority(tmp_path).ca_pem == first.ca_pem
    (tmp_path / "ca.key").unlink()
    with pytest.raises(ConfigError, match="belong together"):
        Authority(tmp_path)


def test_the_server_certificate_follows_the_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server_context(["127.0.0.1"])
    before = (tmp_path / "server.crt").read_bytes()
    authority.server_context(["127.0.0.1"])
    assert (tmp_path / "server.crt").read_bytes() == before
    authority.server_context(["127.0.0.1", "edge.example", "192.0.2.7"])
    made = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "edge.example" in names.get_values_for_type(x509.DNSName)
    assert "192.0.2.7" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def test_clients_are_named_in_their_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.client("system:node:n1", ["system:nodes", "other"])
    subject = x509.load_pem_x509_certificate(pair.certificate).subject
    assert subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "system:node:n1"
    assert [each.value for each in subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)] == ["system:nodes", "other"]
    config = json.loads(authority.kubeconfig("https://127.0.0.1:1", "me", []))
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
