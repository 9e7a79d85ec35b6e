"""The client's TLS context."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from integration.mosquitto import make_tls

from pinnace.core.eventbus.settings import BusTlsSettings
from pinnace.core.eventbus.tls import client_context


def test_verifies_by_the_systems_authorities_unless_enabled() -> None:
    context = client_context(BusTlsSettings())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_trusts_only_the_authority_of_the_settings(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    context = client_context(BusTlsSettings(True, tls.ca, tls.client_certificate, tls.client_key))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "ca"),),)]


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
@pytest.mark.parametrize("content", [None, "", "garbage"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, missing: str, content: str | None) -> None:
    tls = make_tls(tmp_path)
    other = tmp_path / "other.pem"
    if content is not None:
        other.write_text(content)
    files = {"ca": tls.ca, "certificate": tls.client_certificate, "key": tls.client_key, missing: other}
    with pytest.raises(OSError, match=r"eventBusTLS.*other\.pem"):
        client_context(BusTlsSettings(True, files["ca"], files["certificate"], files["key"]))


def test_an_encrypted_key_is_refused_and_not_asked_for(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    key = serialization.load_pem_private_key(tls.client_key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    tls.client_key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    with pytest.raises(OSError, match="tlsMqttPrivateKeyFile"):
        client_context(BusTlsSettings(True, tls.ca, tls.client_certificate, tls.client_key))
