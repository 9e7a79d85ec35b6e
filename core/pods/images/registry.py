"""One registry's HTTP side: requests with the authorization it asks for, redirects, proxies, authorities, and errors in plain words.

Only the child process imports this. Protocol: OCI distribution specification; the docker registry's token authentication.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ProxyError, SSLError

from pinnace.core.base import bundle
from pinnace.core.base.runtime import Credential, PullFailed
from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images import auth
from pinnace.core.pods.images.manifests import read
from pinnace.core.pods.images.references import HUB

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0
_REDIRECTS: Final = 5
_TOKEN_LIMIT: Final = 1 << 20
_MESSAGE_LIMIT: Final = 1 << 16
Response = urllib3.BaseHTTPResponse


class Answered(PullFailed):
    """The registry answered, and not with what was asked for; `retry_after` in seconds as it says, 0.0 if it does not."""

    def __init__(self, message: str, status: int, *, reason: str = "ErrImagePull", retry_after: float = 0.0) -> None:
        super().__init__(message, reason=reason)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        return self.status in (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a registry or a mirror of it answers. `base` ends in /v2 or below; `host` is what pull secrets name."""

    base: str
    host: str
    ca_file: Path | None = None
    is_mirror: bool = False

    @property
    def is_plain(self) -> bool:
        return self.base.startswith("http://")


def endpoints(registry: str, settings: RegistrySettings | None) -> list[Endpoint]:
    """The mirrors of a registry in order, then itself."""
    ca_file = settings.ca_file if settings else None
    found = []
    for mirror in settings.mirrors if settings else ():
        parts = urllib.parse.urlsplit(mirror)
        path = parts.path.rstrip("/")
        base = f"{parts.scheme}://{parts.netloc}{path}" + ("" if path == "/v2" or path.startswith("/v2/") else "/v2")
        found.append(Endpoint(base, parts.netloc, ca_file, is_mirror=True))
    host = "registry-1.docker.io" if registry == HUB else registry
    is_plain = settings.plain_http if settings else _is_loopback(urllib.parse.urlsplit(f"//{host}").hostname or "")
    return [*found, Endpoint(f"{'http' if is_plain else 'https'}://{host}/v2", registry, ca_file)]


class Registry:
    """One endpoint, one repository there, as one user (None is nobody). Every call may raise PullFailed."""

    def __init__(self, endpoint: Endpoint, repository: str, credential: Credential | None) -> None:
        self.endpoint = endpoint
        self._repository = repository
        self._credential = credential
        self._authorization = ""
        self._context = _context(endpoint)
        self._pools: dict[str, urllib3.PoolManager] = {}

    @contextlib.contextmanager
    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """The answer to GET <base>/<repository>/<path>, 200 or 206; its body is to be read within the block."""
        url = f"{self.endpoint.base}/{self._repository}/{path}"
        response = self._follow(url, dict(headers or {}))
        try:
            if response.status == 401 and self._authorize(response):
                response.release_conn()
                response = self._follow(url, dict(headers or {}))
            if response.status not in (200, 206):
                raise self._failed(response, path)
            yield response
        finally:
            response.close()

    def _follow(self, url: str, headers: dict[str, str]) -> Response:
        origin = urllib.parse.urlsplit(url)
        for _ in range(_REDIRECTS):
            parts = urllib.parse.urlsplit(url)
            # The registry's own word for who we are goes to the registry only, never to where it sends us.
            is_own = (parts.scheme, parts.netloc) == (origin.scheme, origin.netloc)
            own = {"Authorization": self._authorization} if is_own and self._authorization else {}
            response = self._send("GET", url, {**headers, **own})
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = response.headers.get("Location", "")
            response.drain_conn()
            url = urllib.parse.urljoin(url, target)
            if not target or not url.startswith(("https://", "http://")):
                raise Answered(f"{self.endpoint.host} redirects to no address", response.status)
            if url.startswith("http://") and not self.endpoint.is_plain:
                raise Answered(f"{self.endpoint.host} redirects to an address without TLS, which is refused", response.status)
        raise Answered(f"{self.endpoint.host} redirects in a circle", 310)

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        with words(urllib.parse.urlsplit(url).netloc.rpartition("@")[2]):
            return self._pool(url).request(
                method,
                url,
                headers={"User-Agent": "pinnace", "Accept-Encoding": "identity", **headers},
                body=body,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
            )

    def _pool(self, url: str) -> urllib3.PoolManager:
        proxy = proxy_for(url)
        if proxy not in self._pools:
            timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
            if proxy:
                parts = urllib.parse.urlsplit(proxy)
                login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}" if parts.username else None
                headers = urllib3.make_headers(proxy_basic_auth=login)
                address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
                self._pools[proxy] = urllib3.ProxyManager(address, proxy_headers=headers, ssl_context=self._context, timeout=timeout)
            else:
                self._pools[proxy] = urllib3.PoolManager(ssl_context=self._context, timeout=timeout)
        return self._pools[proxy]

    def _authorize(self, response: Response) -> bool:
        """Take up what a 401 offers; false when it was all in vain."""
        offered = auth.challenges(response.headers.getlist("WWW-Authenticate"))
        response.drain_conn()
        before = self._authorization
        for each in offered:
            if each.scheme == "bearer" and each.realm:
                self._authorization = "Bearer " + self._token(each)
                return True
            if each.scheme == "basic" and self._credential is not None and self._credential.username:
                self._authorization = auth.basic(self._credential)
                return self._authorization != before
        return False

    def _token(self, challenge: auth.Challenge) -> str:
        credential = self._credential
        if not challenge.realm.startswith("https://") and not (self.endpoint.is_plain and challenge.realm.startswith("http://")):
            raise Answered(f"{self.endpoint.host} wants tokens to be fetched without TLS, which is refused", 401)
        scope = challenge.scope or f"repository:{self._repository}:pull"
        query = {"service": challenge.service, "scope": scope}
        if credential is not None and credential.identity_token:
            form = {**query, "grant_type": "refresh_token", "client_id": "pinnace", "refresh_token": credential.identity_token}
            body = urllib.parse.urlencode(form).encode()
            response = self._send("POST", challenge.realm, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        else:
            mark = "&" if "?" in challenge.realm else "?"
            own = {"Authorization": auth.basic(credential)} if credential is not None and credential.username else {}
            response = self._send("GET", f"{challenge.realm}{mark}{urllib.parse.urlencode(query)}", own)
        try:
            if response.status != 200:
                raise self._failed(response, "token")
            with words(self.endpoint.host):
                document = read(response.read(_TOKEN_LIMIT), "the answer with the registry's token")
        finally:
            response.close()
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise Answered(f"{self.endpoint.host} gave no token", 401)
        return token

    def _failed(self, response: Response, path: str) -> Answered:
        status, host = response.status, self.endpoint.host
        what = f"{host}/{self._repository}"
        if status == 401:
            who = "these credentials" if self._credential else "a pull without credentials"
            return Answered(f"{host} refuses {who} for {what}: unauthorized; check the pod's imagePullSecrets", status)
        if status == 403:
            return Answered(f"{host} denies the pull of {what}; check that the user of the pod's imagePullSecrets may read it", status)
        if status == 404:
            return Answered(f"{what} has no such image ({path.rpartition('/')[2]}): not found; check name and tag", status)
        retry_after = response.headers.get("Retry-After", "")
        seconds = float(retry_after) if retry_after.isdigit() else 0.0
        if status == 429:
            return Answered(f"{host} allows no more pulls now: too many requests", status, retry_after=seconds)
        reason = "RegistryUnavailable" if status >= 500 else "ErrImagePull"
        return Answered(f"{host} answered {status} for {what}{_said(response)}", status, reason=reason, retry_after=seconds)


def _said(response: Response) -> str:
    """What the registry says of it, in the shape of its errors."""
    try:
        document = read(response.read(_MESSAGE_LIMIT), "")
        return f": {document['errors'][0]['message'][:200]}"
    except (PullFailed, HTTPError, OSError, LookupError, TypeError):
        return ""


@contextlib.contextmanager
def words(host: str) -> Iterator[None]:
    """Turns what goes wrong on the line into PullFailed. Never quotes what was sent."""
    try:
        yield
    except SSLError as error:
        cause = _root(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Answered(
                f"the certificate of {host} is not trusted ({cause.verify_message}); "
                "give its authority as caFile in builtinRuntime.registries",
                495,
            ) from None
        if isinstance(cause, ssl.SSLEOFError | ConnectionError):
            raise _silent(host, "the connection was cut in the TLS handshake") from None
        if isinstance(cause, ssl.SSLError):
            text = cause.reason or "TLS failed"
            hint = (
                "; if it has no TLS, say plainHTTP: true in builtinRuntime.registries"
                if "WRONG_VERSION" in text or "RECORD" in text
                else ""
            )
            raise Answered(f"TLS with {host} failed: {text}{hint}", 495) from None
        raise _silent(host, "the connection was cut in the TLS handshake") from None
    except ProxyError as error:
        text = str(_root(error))
        if "407" in text:
            raise Answered(f"the proxy on the way to {host} asks for a password; give it in HTTPS_PROXY or HTTP_PROXY", 407) from None
        if "403" in text:
            raise Answered(f"the proxy on the way to {host} denies the connection", 403) from None
        raise _silent(host, "the proxy cannot be reached or does not reach it") from None
    except LocationParseError:
        raise PullFailed(f"'{host}' is no address of a registry; correct the pod's image", reason="InvalidImageName") from None
    except (HTTPError, OSError) as error:
        cause = _root(error)
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        if "Timeout" in type(error).__name__ or isinstance(cause, TimeoutError):
            text = "no answer in time"
        raise _silent(host, text) from None


def _silent(host: str, why: str) -> PullFailed:
    return PullFailed(f"no answer from {host}: {why}", reason="RegistryUnavailable", is_unreachable=True)


def _root(error: BaseException) -> BaseException:
    while True:
        inner = error.__cause__ or error.__context__
        inner = next((each for each in error.args if isinstance(each, BaseException)), inner)
        inner = getattr(error, "original_error", None) or inner
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _context(endpoint: Endpoint) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=bundle.authorities() or None)
    if endpoint.ca_file is not None:
        try:
            context.load_verify_locations(cafile=str(endpoint.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise PullFailed(f"{endpoint.ca_file}, the caFile of {endpoint.host}, cannot be read: {error}; it must be a PEM file") from None
    return context


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> str:
    """The proxy that HTTPS_PROXY, HTTP_PROXY (or ALL_PROXY) give for an address; "" for none. NO_PROXY lists hosts, .domains, addresses
    and networks; loopback is never proxied."""
    names = {key.lower(): value for key, value in sorted((environment or os.environ).items()) if value}  # small letters win
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "").lower()
    proxy = names.get(f"{parts.scheme}_proxy") or names.get("all_proxy") or ""
    if not proxy or _is_loopback(host):
        return ""
    for each in (text.strip().lower() for text in names.get("no_proxy", "").split(",")):
        if each and _is_excepted(each, host, parts.port):
            return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excepted(pattern: str, host: str, port: int | None) -> bool:
    if pattern == "*":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False)
    name, colon, wanted = pattern.rpartition(":")
    if colon and wanted.isdigit():
        if port != int(wanted):
            return False
        pattern = name
    bare = pattern.removeprefix("*").lstrip(".")
    return bool(bare) and (host == bare or host.endswith("." + bare))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
