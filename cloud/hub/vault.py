"""Keeps the authority, the server's certificate and the join token as Secrets, so that every cloudcore of a cluster has the same."""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import logging
import ssl
import tempfile
from pathlib import Path
from typing import Final

from pinnace.cloud.hub import pki, tokens
from pinnace.cloud.hub.pki import Authority, Pair
from pinnace.cloud.hub.settings import CloudHubSettings
from pinnace.cloud.kube.resources import NAMESPACES, SECRETS
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.errors import ConfigError, PinnaceError, RemoteError

logger = logging.getLogger(__name__)

NAMESPACE: Final = "kubeedge"
CA_SECRET: Final = "casecret"  # noqa: S105 - a name
SERVER_SECRET: Final = "cloudcoresecret"  # noqa: S105
TOKEN_SECRET: Final = "tokensecret"  # noqa: S105
RETRY_SECONDS: Final = 30.0

Values = dict[str, bytes]


class Vault:
    """What the hub proves itself with. `open` first; then `run` keeps the join token fresh."""

    def __init__(self, kube: KubeApi, settings: CloudHubSettings, clock: Clock | None = None) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock or LoopClock()
        self._authority: Authority | None = None
        self._server: Pair | None = None
        self._token = ""

    @property
    def authority(self) -> Authority:
        assert self._authority is not None, "open the vault first"
        return self._authority

    @property
    def server(self) -> Pair:
        assert self._server is not None, "open the vault first"
        return self._server

    @property
    def token(self) -> str:
        """The join token; a secret."""
        return self._token

    async def open(self) -> None:
        """Load or make everything and store what is new. Raises ConfigError for unusable files or Secrets, and KubeApi's errors."""
        await self._make_namespace()
        self._authority = await self._open_authority()
        self._server = await self._open_server()
        await self._open_token()

    async def run(self) -> None:
        """Mint a new join token whenever half of the last one's life is over. Never returns."""
        while True:
            left = tokens.expiry(self._token) - self._clock.wall() - self._refresh_seconds
            await self._clock.sleep(max(left, 1.0))
            try:
                await self._mint()
            except PinnaceError as error:
                logger.warning("hub.token.not_refreshed error=%s: trying again in %g s", error, RETRY_SECONDS)
                await self._clock.sleep(RETRY_SECONDS)

    def context(self, *, certificate_required: bool, clients: str | None = None) -> ssl.SSLContext:
        """TLS for a listener: the server's certificate, client certificates of our authority asked for, and required or not. `clients`
        are other authorities, as PEM, in place of ours; without any no certificate is asked for."""
        authorities = pki.pem(self.authority.pair.certificate).decode() if clients is None else clients
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if authorities:
            context.load_verify_locations(cadata=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(["http/1.1"])
        if authorities:
            context.verify_mode = ssl.CERT_REQUIRED if certificate_required else ssl.CERT_OPTIONAL
        with tempfile.TemporaryDirectory(prefix="pinnace-") as folder:  # mode 0700; ssl reads pairs from files only
            certificate, key = Path(folder, "crt"), Path(folder, "key")
            certificate.write_bytes(pki.pem(self.server.certificate))
            key.write_bytes(pki.key_pem(self.server.key))
            context.load_cert_chain(certificate, key)
        return context

    @property
    def _refresh_seconds(self) -> float:
        return self._settings.token_refresh_duration * 3600.0

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)

    async def _open_authority(self) -> Authority:
        settings = self._settings
        pair = await asyncio.to_thread(_read_pair, settings.tls_ca_file, settings.tls_ca_key_file, "tlsCAFile", "tlsCAKeyFile")
        if pair is not None:
            authority = Authority(pair)
            await self._put(CA_SECRET, {"cadata": pair.certificate, "cakeydata": pair.key})
            return authority
        values = await self._get(CA_SECRET)
        if values is None:
            made = Authority.new(self._now()).pair
            values = await self._add(CA_SECRET, {"cadata": made.certificate, "cakeydata": made.key})
        return Authority(Pair(_value(CA_SECRET, values, "cadata"), _value(CA_SECRET, values, "cakeydata")))

    async def _open_server(self) -> Pair:
        settings = self._settings
        pair = await asyncio.to_thread(
            _read_pair, settings.tls_cert_file, settings.tls_private_key_file, "tlsCertFile", "tlsPrivateKeyFile"
        )
        if pair is not None:
            await self._put(SERVER_SECRET, {"cloudcoredata": pair.certificate, "cloudcorekeydata": pair.key})
            return pair
        names = settings.names()
        values = await self._get(SERVER_SECRET)
        if values is not None:
            kept = Pair(values.get("cloudcoredata", b""), values.get("cloudcorekeydata", b""))
            if self.authority.serves(kept, names, self._now()):
                return kept
        made = self.authority.issue_server(names, self._now())
        await self._put(SERVER_SECRET, {"cloudcoredata": made.certificate, "cloudcorekeydata": made.key})
        logger.info("hub.pki.server_certificate_issued names=%s", ",".join(names))
        return made

    async def _open_token(self) -> None:
        values = await self._get(TOKEN_SECRET)
        token = (values or {}).get("tokendata", b"").decode("ascii", "replace")
        try:
            tokens.check(token.partition(".")[2], self.authority.pair.key, self._clock.wall() + self._refresh_seconds)
        except PinnaceError:
            await self._mint()
        else:
            self._token = token

    async def _mint(self) -> None:
        expires = int(self._clock.wall() + 2 * self._refresh_seconds)
        token = tokens.mint(self.authority.pair.certificate, self.authority.pair.key, expires)
        await self._put(TOKEN_SECRET, {"tokendata": token.encode()})
        self._token = token
        logger.info("hub.token.minted hours=%d", 2 * self._settings.token_refresh_duration)

    async def _make_namespace(self) -> None:
        body: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        try:
            await self._kube.get(NAMESPACES, NAMESPACE)
        except RemoteError as error:
            if error.code != 404:
                raise
            try:
                await self._kube.create(NAMESPACES, body)
            except RemoteError as exists:
                if exists.code != 409:
                    raise

    async def _get(self, name: str) -> Values | None:
        try:
            return _values(await self._kube.get(SECRETS, name, NAMESPACE))
        except RemoteError as error:
            if error.code == 404:
                return None
            raise

    async def _add(self, name: str, values: Values) -> Values:
        """Create a Secret; when another cloudcore was quicker, take what it stored."""
        try:
            return _values(await self._kube.create(SECRETS, _secret(name, values), NAMESPACE))
        except RemoteError as error:
            if error.code != 409:
                raise
            return _values(await self._kube.get(SECRETS, name, NAMESPACE))

    async def _put(self, name: str, values: Values) -> None:
        """Create or replace a Secret; the last writer wins."""
        if await self._get(name) == values:
            return
        try:
            await self._kube.create(SECRETS, _secret(name, values), NAMESPACE)
        except RemoteError as error:
            if error.code != 409:
                raise
            await self._kube.replace(SECRETS, _secret(name, values), name, NAMESPACE)


def _secret(name: str, values: Values) -> Object:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": data,
    }


def _values(secret: Object) -> Values:
    try:
        return {key: base64.b64decode(value or "") for key, value in (secret.get("data") or {}).items()}
    except (binascii.Error, TypeError) as error:
        raise ConfigError(f"Secret {NAMESPACE}/{secret.get('metadata', {}).get('name')} holds no base64") from error


def _value(name: str, values: Values, key: str) -> bytes:
    if not values.get(key):
        raise ConfigError(f"Secret {NAMESPACE}/{name} has no {key}; restore it, or delete the Secret to start a new authority")
    return values[key]


def _read_pair(certificate: Path, key: Path, certificate_name: str, key_name: str) -> Pair | None:
    """The DER inside the first PEM block of each file, whatever its label; None when neither exists."""
    there = [path.exists() for path in (certificate, key)]
    if not any(there):
        return None
    if not all(there):
        missing, other = (key, certificate) if there[0] else (certificate, key)
        raise ConfigError(f"{missing} is missing while {other} exists; {certificate_name} and {key_name} belong together")
    return Pair(_first_block(certificate), _first_block(key))


def _first_block(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="ascii")
        _, begin, rest = text.partition("-----BEGIN ")
        body, end, _ = rest.partition("-----")[2].partition("-----END ")
        if not begin or not end:
            raise ValueError("no PEM block")
        return base64.b64decode("".join(body.split()), validate=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as PEM: {error}") from error
