"""Tokens, keys and requests, and the files they end in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError, RefusedError
from pinnace.core.hub import certificates, openssl
from pinnace.core.hub.certificates import Certificates, check_authority, parse_token
from pinnace.core.hub.settings import EdgeHubSettings

TOKEN = f"{hashlib.sha256(b'CADER').hexdigest()}.eyJh.eyJl.wlD0"


def test_a_token_has_a_hash_and_a_jwt() -> None:
    token = parse_token(f" {TOKEN.upper()[:64]}{TOKEN[64:]}\n")
    assert token.ca_hash == hashlib.sha256(b"CADER").hexdigest()
    assert token.jwt == "eyJh.eyJl.wlD0"
    check_authority(b"CADER", token)
    with pytest.raises(RefusedError, match="not the cloud that made the token"):
        check_authority(b"OTHER", token)


@pytest.mark.parametrize("text", ["", "zzz", TOKEN + ".x", TOKEN.rpartition(".")[0], TOKEN[1:], "." * 4, TOKEN.replace("eyJh", "")])
def test_a_damaged_token_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_token(text)
    assert not text or text not in str(caught.value)


async def test_makes_a_key_and_a_request_for_the_node() -> None:
    key, request = await openssl.key_and_request(NodeName("192.168.4.22-pi2"))
    assert b"BEGIN EC PRIVATE KEY" in key
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp256r1"
    found = x509.load_der_x509_csr(request)
    assert found.is_signature_valid
    assert found.public_key() == private.public_key()
    assert {each.rfc4514_string() for each in found.subject} == {
        "C=CN", "ST=Zhejiang", "L=Hangzhou", "O=system:nodes", "CN=system:node:192.168.4.22-pi2",
    }  # fmt: skip


async def test_no_openssl_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/nonexistent"})
    with pytest.raises(ConfigError, match="install the package openssl"):
        await openssl.key_and_request(NodeName("edge-1"))


@pytest.mark.parametrize("data", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_what_is_no_certificate_is_said(data: bytes) -> None:
    with pytest.raises(ValueError):
        await openssl.look(data)


def test_pem() -> None:
    assert certificates.pem(b"x" * 60) == (
        b"-----BEGIN CERTIFICATE-----\n" + b"eHh4" * 16 + b"\n" + b"eHh4" * 4 + b"\n-----END CERTIFICATE-----\n"
    )


def test_files_are_whole_private_and_in_new_folders(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "key", tmp_path / "b" / "crt"
    certificates._write({first: b"1", second: b"2"})
    certificates._write({first: b"3"})
    assert (first.read_bytes(), second.read_bytes()) == (b"3", b"2")
    assert first.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["crt", "key"]


def test_a_failed_write_leaves_the_old_files(tmp_path: Path) -> None:
    good, blocked = tmp_path / "key", tmp_path / "file" / "crt"
    good.write_bytes(b"old")
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(OSError):
        certificates._write({good: b"new", blocked: b"new"})
    assert good.read_bytes() == b"old"


@pytest.mark.parametrize("node", ["", "UPPER", "a/b", "-a", "x\n"])
def test_a_name_that_could_be_something_else_is_refused(node: str) -> None:
    with pytest.raises(ConfigError):
        Certificates(EdgeHubSettings(), NodeName(node))
