"""The authority: what it signs, what it does not, and that a real TLS library agrees."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinnace.cloud.hub import pki
from pinnace.cloud.hub.pki import Authority, Pair
from pinnace.core.base.errors import ConfigError, RefusedError

NOW = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
YEAR = datetime.timedelta(days=365)
AUTHORITY = Authority.new(NOW)


def request(
    common_name: str = "system:node:edge-1",
    organisation: str = "system:nodes",
    *,
    key: object = None,
    extra: list[x509.NameAttribute[str]] | None = None,
) -> bytes:
    names = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "CN"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        *(extra or []),
    ]
    maker = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    signer = key or ec.generate_private_key(ec.SECP256R1())
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return maker.sign(signer, algorithm).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]


def certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def test_the_authority_is_kubeedges() -> None:
    made = certificate(AUTHORITY.pair.certificate)
    assert made.subject.rfc4514_string() == "CN=KubeEdge"
    assert made.serial_number == 1024
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    made.verify_directly_issued_by(made)
    assert serialization.load_der_private_key(AUTHORITY.pair.key, None).public_key() == made.public_key()
    assert b"EC PRIVATE KEY" in serialization.load_der_private_key(AUTHORITY.pair.key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def test_signs_a_nodes_request() -> None:
    made = certificate(AUTHORITY.sign_node(request(), "edge-1", NOW, YEAR))
    assert {each.rfc4514_string() for each in made.subject} == {"CN=system:node:edge-1", "O=system:nodes"}
    assert list(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert made.not_valid_before_utc == NOW - pki.SKEW
    assert made.not_valid_after_utc == NOW + YEAR
    made.verify_directly_issued_by(certificate(AUTHORITY.pair.certificate))


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())]
)
def test_signs_other_good_keys(key: object) -> None:
    assert AUTHORITY.sign_node(request(key=key), "edge-1", NOW, YEAR)


@pytest.mark.parametrize(
    ("der", "node", "why"),
    [
        (b"", "edge-1", "failed to parse csr"),
        (b"\x30\x03\x02\x01\x01", "edge-1", "failed to parse csr"),
        (request(), "edge-2", "subject must be CN=system:node:edge-2"),
        (request("system:node:edge-1", "system:masters"), "edge-1", "subject must be"),
        (request("edge-1"), "edge-1", "subject must be"),
        (request(extra=[x509.NameAttribute(NameOID.COMMON_NAME, "system:node:other")]), "edge-1", "subject must be"),
        (request(extra=[x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")]), "edge-1", "subject must be"),
        (request("system:node:"), "", "NodeName header"),
        (request("system:node:A B"), "A B", "NodeName header"),
        (request(key=rsa.generate_private_key(65537, 1024)), "edge-1", "too weak"),
        (request(key=ec.generate_private_key(ec.SECP192R1())), "edge-1", "too weak"),
    ],
)
def test_refuses(der: bytes, node: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        AUTHORITY.sign_node(der, node, NOW, YEAR)


def test_refuses_a_request_whose_signature_is_wrong() -> None:
    der = bytearray(request())
    der[-1] ^= 1
    with pytest.raises(RefusedError):
        AUTHORITY.sign_node(bytes(der), "edge-1", NOW, YEAR)


@pytest.mark.parametrize("usages", [[1], [1, 2], [], [2, 2], ["2"]])
def test_grants_client_authentication_alone(usages: list[int]) -> None:
    with pytest.raises(RefusedError, match="client authentication only"):
        AUTHORITY.sign_node(request(), "edge-1", NOW, YEAR, usages)


def test_a_certificate_never_outlives_the_authority() -> None:
    end = certificate(AUTHORITY.pair.certificate).not_valid_after_utc
    assert certificate(AUTHORITY.sign_node(request(), "edge-1", end - YEAR / 2, YEAR)).not_valid_after_utc == end


def test_knows_when_a_server_pair_still_serves() -> None:
    names = ["127.0.0.1", "cloud.example.com", "::1"]
    pair = AUTHORITY.issue_server(names, NOW)
    assert AUTHORITY.serves(pair, names, NOW)
    assert AUTHORITY.serves(pair, [*reversed(names), ""], NOW)
    assert not AUTHORITY.serves(pair, ["127.0.0.1"], NOW)
    assert not AUTHORITY.serves(pair, names, NOW - YEAR)
    assert not AUTHORITY.serves(pair, names, NOW + pki.LONG_LIFE - pki.RENEW_BEFORE)
    assert not AUTHORITY.serves(Pair(pair.certificate, AUTHORITY.pair.key), names, NOW)
    assert not Authority.new(NOW).serves(pair, names, NOW)
    assert not AUTHORITY.serves(Pair(b"", b""), names, NOW)


@pytest.mark.parametrize(
    "pair", [Pair(b"x", b"x"), Pair(AUTHORITY.pair.certificate, b"x"), Pair(Authority.new(NOW).pair.certificate, AUTHORITY.pair.key)]
)
def test_an_unusable_authority_is_said(pair: Pair) -> None:
    with pytest.raises(ConfigError):
        Authority(pair)
