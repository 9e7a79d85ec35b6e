"""The server's own certificate authority: its server certificate, client certificates, and the kubeconfig files that carry them."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pinnace.core.base.errors import ConfigError

logger = logging.getLogger(__name__)

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_DAYS = 30
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost")


class Pair(NamedTuple):
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


def write_private(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner only from the first byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("an elliptic-curve key was expected")
    return key


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Authority:
    """The certificate authority in `folder`, made on first use. Every key is a P-256 key in a file of mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = self._kept_ca()
        self._certificate = x509.load_pem_x509_certificate(self._ca.certificate)
        self._key = private_key(self._ca.key)

    @property
    def ca_pem(self) -> bytes:
        return self._ca.certificate

    @property
    def ca_path(self) -> Path:
        return self._folder / "ca.crt"

    def token_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that signs service-account tokens."""
        path = self._folder / "sa.key"
        if not path.exists():
            write_private(path, _pem(ec.generate_private_key(ec.SECP256R1())))
        return private_key(path.read_bytes())

    def server_context(self, names: Iterable[str]) -> ssl.SSLContext:
        """TLS for the server: its certificate for `names`, client certificates of this authority asked for and checked, not required."""
        self._renew_server(sorted({*names, *SERVICE_NAMES, socket.gethostname(), "127.0.0.1", "::1", "10.96.0.1"}))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self._ca.certificate.decode())
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._folder / "server.crt", self._folder / "server.key")
        return context

    def client(self, user: str, groups: Sequence[str]) -> Pair:
        """A client certificate: the user is its CN, the groups are its Os."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        return self._leaf(subject, [], ExtendedKeyUsageOID.CLIENT_AUTH)

    def kubeconfig(self, server: str, user: str, groups: Sequence[str]) -> bytes:
        """A kubeconfig (JSON, which is YAML) with everything inside."""
        pair = self.client(user, groups)

        def text(content: bytes) -> str:
            return base64.b64encode(content).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "pinnace", "cluster": {"server": server, "certificate-authority-data": text(self._ca.certificate)}}],
            "users": [{"name": user, "user": {"client-certificate-data": text(pair.certificate), "client-key-data": text(pair.key)}}],
            "contexts": [{"name": "pinnace", "context": {"cluster": "pinnace", "user": user}}],
            "current-context": "pinnace",
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def _kept_ca(self) -> Pair:
        certificate, key = self._folder / "ca.crt", self._folder / "ca.key"
        if certificate.exists() != key.exists():
            raise ConfigError(f"{self._folder}: ca.crt and ca.key belong together and one is missing; restore it or remove both")
        if not certificate.exists():
            pair = self._new_ca()
            write_private(key, pair.key)
            write_private(certificate, pair.certificate)
            logger.info("api.pki.authority_made folder=%s", self._folder)
        return Pair(certificate.read_bytes(), key.read_bytes())

    def _new_ca(self) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pinnace-apiserver-ca")])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=10))
            .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))

    def _leaf(self, subject: x509.Name, names: Sequence[str], usage: x509.ObjectIdentifier) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=10))
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))

    def _renew_server(self, names: Sequence[str]) -> None:
        """Keep the server certificate, or make a new one when the names changed or its end is near."""
        certificate, key = self._folder / "server.crt", self._folder / "server.key"
        if certificate.exists() and key.exists():
            found = x509.load_pem_x509_certificate(certificate.read_bytes())
            alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            ends = found.not_valid_after_utc - datetime.timedelta(days=RENEW_DAYS)
            if set(alternatives) == {_alternative(name) for name in names} and datetime.datetime.now(datetime.UTC) < ends:
                return
        pair = self._leaf(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pinnace-apiserver")]), names, ExtendedKeyUsageOID.SERVER_AUTH)
        write_private(key, pair.key)
        write_private(certificate, pair.certificate)
