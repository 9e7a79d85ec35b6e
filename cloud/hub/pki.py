"""The hub's certificate authority: its own pair, the server's, and what it signs for nodes (docs/protocol.md, Joining; RFC 5280, 2986).

Certificates are DER; keys are SEC1 DER (`EC PRIVATE KEY`), as KubeEdge stores them. No I/O.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NODE_NAME
from pinnace.core.base.errors import ConfigError, RefusedError

NODE_GROUP: Final = "system:nodes"
"""The organisation in every node's certificate."""

AUTHORITY_NAME: Final = "KubeEdge"
CA_SERIAL: Final = 1024
LONG_LIFE: Final = datetime.timedelta(days=100 * 364)
SKEW: Final = datetime.timedelta(minutes=5)
"""How far NotBefore lies in the past, so that an edge whose clock lags a little can use its certificate at once. KubeEdge's is now."""
RENEW_BEFORE: Final = datetime.timedelta(days=30)

CLIENT_AUTH: Final = 2
"""Go's number for client authentication, as the ExtKeyUsages header has it."""

_KeyTypes = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Pair(NamedTuple):
    """A certificate and its key, both DER."""

    certificate: bytes
    key: bytes


def _load_key(der: bytes) -> _KeyTypes:
    try:
        key = serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the key cannot be read ({error}); expected an EC key in SEC1 or PKCS#8 form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigError("the key is neither an EC nor an RSA key")
    return key


def _new_key() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    sec1 = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return key, sec1


def _name(common_name: str, organisation: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in sorted({name for name in names if name}):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def pem(certificate: bytes) -> bytes:
    """A certificate's PEM text."""
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)


def key_pem(key: bytes) -> bytes:
    """A key's PEM text (PKCS#8), as TLS libraries read it."""
    return _load_key(key).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """A certificate authority. Raises ConfigError when its pair cannot be used."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._key = _load_key(pair.key)
        try:
            self._certificate = x509.load_der_x509_certificate(pair.certificate)
        except ValueError as error:
            raise ConfigError(f"the CA certificate cannot be read: {error}") from error
        if self._certificate.public_key() != self._key.public_key():
            raise ConfigError("the CA certificate and the CA key do not belong together")

    @classmethod
    def new(cls, now: datetime.datetime) -> Authority:
        """A new authority: P-256, self-signed, `CN=KubeEdge`, good for 99 years."""
        key, sec1 = _new_key()
        name = _name(AUTHORITY_NAME)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(CA_SERIAL)
            .not_valid_before(now - SKEW)
            .not_valid_after(now + LONG_LIFE)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(Pair(certificate.public_bytes(serialization.Encoding.DER), sec1))

    def issue_server(self, names: Sequence[str], now: datetime.datetime) -> Pair:
        """A new pair for the cloud's listeners; `names` are IP addresses and DNS names."""
        key, sec1 = _new_key()
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        certificate = self._sign(
            _name(AUTHORITY_NAME, AUTHORITY_NAME), key.public_key(), _alternatives(names), usages, now=now, ends=now + LONG_LIFE
        )
        return Pair(certificate, sec1)

    def serves(self, server: Pair, names: Sequence[str], now: datetime.datetime) -> bool:
        """Whether a server pair is ours, complete, has just these names and lives on for a month."""
        try:
            certificate = x509.load_der_x509_certificate(server.certificate)
            certificate.verify_directly_issued_by(self._certificate)
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            key = _load_key(server.key)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, ConfigError):
            return False
        named = {each for each in alternatives if each.value != ""}
        return (
            named == set(_alternatives(names))
            and certificate.public_key() == key.public_key()
            and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
        )

    def sign_node(
        self, request: bytes, node: str, now: datetime.datetime, life: datetime.timedelta, usages: Sequence[int] = (CLIENT_AUTH,)
    ) -> bytes:
        """The certificate (DER) for a node's PKCS#10 request (DER). Raises RefusedError.

        Stricter than KubeEdge: the request's signature must verify, its subject must be this node in `system:nodes`, and only
        client authentication is granted, so that no node can pass itself off as another one or as the cloud.
        """
        try:
            csr = x509.load_der_x509_csr(request)
            public_key = csr.public_key()
            subject = csr.subject
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RefusedError(f"failed to parse csr, err: {error}") from error
        if not csr.is_signature_valid:
            raise RefusedError("the csr's own signature is wrong")
        if not NODE_NAME.fullmatch(node):
            raise RefusedError("the NodeName header is no valid node name")
        common_names = [each.value for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organisations = [each.value for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        if common_names != [NODE_COMMON_NAME + node] or organisations != [NODE_GROUP]:
            raise RefusedError(f"the csr's subject must be CN={NODE_COMMON_NAME}{node}, O={NODE_GROUP}")
        if tuple(usages) != (CLIENT_AUTH,):
            raise RefusedError(f"a node's certificate is for client authentication only (ExtKeyUsages [{CLIENT_AUTH}])")
        return self._sign(
            _name(NODE_COMMON_NAME + node, NODE_GROUP),
            _accepted(public_key),
            _wanted_alternatives(csr),
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            now=now,
            ends=now + life,
        )

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey,
        alternatives: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        *,
        now: datetime.datetime,
        ends: datetime.datetime,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(secrets.randbits(63) | 1)
            .not_valid_before(now - SKEW)
            .not_valid_after(min(ends, self._certificate.not_valid_after_utc))
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _accepted(key: object) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size >= 256:
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise RefusedError("the csr's key is too weak: expected P-256 or better, RSA of 2048 bits or more, or Ed25519")


def _wanted_alternatives(csr: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        wanted = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except ValueError as error:
        raise RefusedError(f"failed to parse csr, err: {error}") from error
    return [each for each in wanted if isinstance(each, x509.DNSName | x509.IPAddress)]
