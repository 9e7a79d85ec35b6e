"""The node's certificate: fetched with the join token, kept in three files, renewed with itself (docs/protocol.md, Joining)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import ssl
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from random import random
from time import gmtime, strftime
from typing import Final, NamedTuple

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.contract import wireversion
from pinnace.core.base.contract.keys import NODE_COMMON_NAME, NODE_NAME, NodeName
from pinnace.core.base.errors import ConfigError, LinkError, RefusedError
from pinnace.core.base.files import sync_folder
from pinnace.core.hub import openssl
from pinnace.core.hub.bootstrap import Answer, get
from pinnace.core.hub.openssl import Facts
from pinnace.core.hub.settings import EdgeHubSettings

logger = logging.getLogger(__name__)

_NEW: Final = ".new"
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (OpenSSL, x509_vfy.h)."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+SHA"
RENEWAL: Final = (0.7, 0.9)
"""Between which parts of its life a certificate is renewed."""


class JoinToken(NamedTuple):
    """`<sha256 of the CA's DER>.<JWT>`; the JWT is for the cloud's eyes."""

    ca_hash: str
    jwt: str


def parse_token(text: str) -> JoinToken:
    """Raises RefusedError for what is no join token; the text itself is never repeated, being a secret."""
    parts = text.strip().split(".")
    if len(parts) != 4 or not all(parts) or len(parts[0]) != 64 or not text.isascii():
        raise RefusedError("the join token is damaged: expected four parts joined by dots, the first of 64 characters; copy it again")
    return JoinToken(parts[0].lower(), ".".join(parts[1:]))


def check_authority(der: bytes, token: JoinToken) -> None:
    """Raises RefusedError when the CA certificate is not the one the token names."""
    found = hashlib.sha256(der).hexdigest()
    if not hmac.compare_digest(found, token.ca_hash):
        raise RefusedError(
            f"the server's CA certificate has hash {found[:12]}…, the join token names {token.ca_hash[:12]}…: "
            "this is not the cloud that made the token, or it was set up anew since"
        )


def pem(certificate: bytes) -> bytes:
    """A DER certificate as PEM (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(certificate).decode("ascii"), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode("ascii")


class Certificates:
    """The three files of `modules.edgeHub` and what is to be done about them. For one event loop."""

    def __init__(
        self,
        settings: EdgeHubSettings,
        node: NodeName,
        *,
        machine: str = "",
        clock: Clock | None = None,
        draw: Callable[[], float] = random,
    ) -> None:
        """`machine`, a machine-id, asks a cloud of ours for a name that another machine had and lost."""
        if not NODE_NAME.fullmatch(node):
            raise ConfigError(f"'{node}' is no node name")
        self._settings = settings
        self._node = node
        self._machine = {wireversion.MACHINE: machine} if machine else {}
        self._clock = clock or LoopClock()
        self._draw = draw
        self._facts: Facts | None = None
        self._part = 0.0  # where between the bounds of RENEWAL this certificate is renewed
        self._context: ssl.SSLContext | None = None
        self._files = asyncio.Lock()

    @property
    def renew_at(self) -> float:
        """Unix seconds; only after `context`."""
        facts = self._facts
        assert facts is not None, "there is no certificate yet"
        early, late = RENEWAL
        return facts.not_before + (facts.not_after - facts.not_before) * (early + (late - early) * self._part)

    async def context(self) -> ssl.SSLContext:
        """TLS towards the hub. Joins first when the files hold no usable certificate of this node.

        Raises RefusedError (token, CA, certificate not accepted), LinkError (the cloud does not answer), ConfigError (files).
        """
        if self._context is not None and self._facts is not None and self._facts.not_after > self._clock.wall():
            return self._context
        flaw = await self.flaw()
        if flaw:
            await self.join(flaw)
        async with self._files:
            self._context = await asyncio.to_thread(self._load)
        return self._context

    async def flaw(self) -> str:
        """Why the files are of no use for this node, "" when they are fine by this machine's clock. Nobody is asked. Raises ConfigError."""
        async with self._files:
            await asyncio.to_thread(self._finish_interrupted_write)
            return await self._flaw()

    async def join(self, why: str = "") -> None:
        """Fetch the CA and a certificate with the join token, whatever is there now, and write the files. Raises as `context`."""
        settings = self._settings
        if not settings.token:
            raise RefusedError(f"{why or 'no certificate'}, and no join token is set (modules.edgeHub.token; see `pinnace gettoken`)")
        token = parse_token(settings.token)
        authority = await self._authority(token)
        key, request = await openssl.key_and_request(self._node)
        certificate, facts = await self._fetch(_trusting(authority), request, {"Authorization": f"Bearer {token.jwt}", **self._machine})
        files = {settings.tls_ca_file: authority, settings.tls_private_key_file: key, settings.tls_cert_file: certificate}
        await self._keep(files, facts)
        logger.info("hub.joined node=%s server=https://%s", self._node, settings.bootstrap)

    async def is_name_taken(self) -> bool:
        """Whether the cloud has a Node of this name already; where it knows `machine`, one that another machine still holds. Needs the join
        token. Raises as `context`."""
        server = self._settings.bootstrap
        context = _trusting(await self._authority(parse_token(self._settings.token)))
        answer = await get(server, f"/node/{self._node}", context, headers=self._machine)
        if answer.status not in (200, 404):
            raise LinkError(f"https://{server}/node/{self._node} answered {answer.status}: {answer.text}")
        return answer.status == 200

    async def time(self) -> float:
        """What the cloud's clock says, in Unix seconds: for a machine whose own has lost the time. It is the cloud that says so: its
        certificate is judged in all but its time. 0 when it says nothing. Raises as `context`."""
        from email.utils import parsedate_to_datetime

        context = _trusting(await self._authority(parse_token(self._settings.token)))
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
        answer = await get(self._settings.bootstrap, "/ca.crt", context)
        try:
            return parsedate_to_datetime(answer.date).timestamp()
        except (TypeError, ValueError):
            return 0.0

    async def renew(self) -> None:
        """Fetch a new certificate by showing the current one. Raises as `context`."""
        settings = self._settings
        key, request = await openssl.key_and_request(self._node)
        certificate, facts = await self._fetch(await asyncio.to_thread(self._load), request, {})
        await self._keep({settings.tls_private_key_file: key, settings.tls_cert_file: certificate}, facts)
        logger.info("hub.certificate.renewed node=%s", self._node)

    async def _authority(self, token: JoinToken) -> bytes:
        """The cloud's CA certificate as PEM, when it is the token's."""
        server = self._settings.bootstrap
        answer = await get(server, "/ca.crt", _blind())
        if answer.status != 200:
            raise LinkError(f"https://{server}/ca.crt answered {answer.status}: {answer.text}")
        check_authority(answer.body, token)
        return pem(answer.body)

    async def _fetch(self, context: ssl.SSLContext, request: bytes, headers: Mapping[str, str]) -> tuple[bytes, Facts]:
        """The new certificate as PEM, and what it says."""
        server = self._settings.bootstrap
        answer = await get(server, "/edge.crt", context, headers={"NodeName": self._node, **headers}, body=request)
        _check_answer(answer, f"https://{server}")
        try:
            facts = await openssl.look(answer.body, der=True)
        except ValueError as error:
            raise LinkError(f"https://{server}/edge.crt answered with something else than a certificate") from error
        if facts.common_name != NODE_COMMON_NAME + self._node:
            raise RefusedError(f"https://{server} gave out a certificate for {facts.common_name}, not for node {self._node}")
        return pem(answer.body), facts

    async def _flaw(self) -> str:
        """Why the files are of no use; "" when they are fine."""
        settings = self._settings
        for path in (settings.tls_ca_file, settings.tls_cert_file, settings.tls_private_key_file):
            if not path.exists():
                return f"{path} does not exist"
        try:
            facts = await openssl.look(await asyncio.to_thread(settings.tls_cert_file.read_bytes))
        except ValueError:
            return f"{settings.tls_cert_file} holds no certificate"
        except OSError as error:
            raise ConfigError(f"{settings.tls_cert_file} cannot be read: {error.strerror}") from error
        if facts.common_name != NODE_COMMON_NAME + self._node:
            return f"{settings.tls_cert_file} is for {facts.common_name}, not for node {self._node}"
        if facts.not_after <= self._clock.wall():
            today = strftime("%Y-%m-%d", gmtime(self._clock.wall()))
            return f"{settings.tls_cert_file} has expired, or this machine's clock is ahead (it says {today})"
        try:
            await asyncio.to_thread(self._load)
        except ConfigError as error:
            return str(error)
        self._take(facts)
        return ""

    def _take(self, facts: Facts) -> None:
        self._facts = facts
        self._part = self._draw()

    def _load(self) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = _trusting(settings.tls_ca_file.read_bytes())
            context.load_cert_chain(settings.tls_cert_file, settings.tls_private_key_file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ConfigError(f"{settings.tls_cert_file} and {settings.tls_private_key_file} cannot be used: {error}") from error
        return context

    async def _keep(self, files: Mapping[Path, bytes], facts: Facts) -> None:
        """Write the files; only then the certificate that `facts` tells of is ours."""
        async with self._files:
            try:
                await asyncio.to_thread(_write, files)
            except OSError as error:
                raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
            self._context = None
            self._take(facts)

    def _finish_interrupted_write(self) -> None:
        """A power cut between the renames of `_write` leaves a key whose certificate still has its temporary name."""
        settings = self._settings
        waiting = settings.tls_cert_file.with_name(settings.tls_cert_file.name + _NEW)
        if not waiting.is_file():
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(waiting, settings.tls_private_key_file)
        except (OSError, ValueError):
            return  # the key is still the old one, and so the old certificate is right
        try:
            waiting.replace(settings.tls_cert_file)
        except OSError as error:
            raise ConfigError(f"{settings.tls_cert_file}: cannot be written: {error.strerror}") from error


def _check_answer(answer: Answer, server: str) -> None:
    if answer.status == 200:
        return
    said = f"{server} answered {answer.status}: {answer.text}"
    if answer.status in (429, 502, 503, 504):
        raise LinkError(said)
    advice = "; fetch a new token with `pinnace gettoken`" if "expired" in answer.text or "signature" in answer.text else ""
    raise RefusedError(said + advice)


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    return context


def _blind() -> ssl.SSLContext:
    """For the CA certificate alone, which is checked by its hash."""
    context = _client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _trusting(authority: bytes) -> ssl.SSLContext:
    context = _client_context()
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context


def _write(files: Mapping[Path, bytes]) -> None:
    """All files whole under temporary names and on disk, then renamed in the given order, mode 0600."""
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + _NEW)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for path in files:
        path.with_name(path.name + _NEW).replace(path)
    for folder in {path.parent for path in files}:
        sync_folder(folder)
