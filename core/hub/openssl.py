"""Keys, certificate requests and a look into certificates, by the `openssl` program: a short-lived child costs less than a library.

Only argument lists and a directory of mode 0700 are used; a key never stands in an argument or a shared file.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from pinnace.core.base.bundle import environment, program
from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NodeName
from pinnace.core.base.errors import ConfigError

_SECONDS: Final = 30.0
_CONFIG: Final = "[req]\ndistinguished_name = dn\n[dn]\n"
_SUBJECT: Final = "/C=CN/ST=Zhejiang/L=Hangzhou/O=system:nodes/CN="
"""As KubeEdge's edges write it; the cloud keeps organisation and common name."""


class Facts(NamedTuple):
    """What a certificate says: names, and its life in Unix seconds."""

    organisation: str
    common_name: str
    not_before: float
    not_after: float


async def key_and_request(node: NodeName) -> tuple[bytes, bytes]:
    """A fresh P-256 key (PEM, SEC1) and the PKCS#10 request (DER) for a node's certificate. Raises ConfigError without openssl
    or a place for temporary files."""
    try:
        return await asyncio.to_thread(_key_and_request, node)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no key can be made: {error}") from error


async def look(certificate: bytes, *, der: bool = False) -> Facts:
    """The facts of a certificate. Raises ValueError when it is none, ConfigError without openssl."""
    return await asyncio.to_thread(_look, certificate, "DER" if der else "PEM")


def verify(certificate: Path, authority: Path) -> None:
    """Whether the authority signed it, whatever the time is. Raises ValueError with openssl's words, ConfigError without openssl."""
    _run("verify", "-no_check_time", "-CAfile", str(authority), str(certificate))


def _key_and_request(node: NodeName) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory(prefix="pinnace-") as folder:
        config, key = Path(folder, "openssl.cnf"), Path(folder, "key")
        config.write_text(_CONFIG, encoding="ascii")
        pem = _run("ecparam", "-name", "prime256v1", "-genkey", "-noout")
        key.write_bytes(pem)
        subject = _SUBJECT + NODE_COMMON_NAME + node
        request = _run("req", "-new", "-config", str(config), "-key", str(key), "-subj", subject, "-outform", "DER")
    return pem, request


def _look(certificate: bytes, form: str) -> Facts:
    text = _run("x509", "-inform", form, "-noout", "-subject", "-nameopt", "multiline", "-dates", given=certificate)
    values = {}
    for line in text.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        values[name.strip()] = value.strip()
    try:
        return Facts(
            values.get("organizationName", ""),
            values.get("commonName", ""),
            float(ssl.cert_time_to_seconds(values["notBefore"])),
            float(ssl.cert_time_to_seconds(values["notAfter"])),
        )
    except KeyError as error:
        raise ValueError("no certificate") from error


def _run(*arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            [program("openssl"), *arguments], input=given, capture_output=True, timeout=_SECONDS, env=environment(), check=False
        )
    except OSError as error:
        raise ConfigError(f"the openssl program cannot be run ({error.strerror}); install the package openssl") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"openssl {arguments[0]} does not end") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(f"openssl {arguments[0]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout
