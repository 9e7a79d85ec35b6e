"""The way to the cloud: name, connection, TLS, and whether what has to be shown there is still good."""

from __future__ import annotations

import base64
import binascii
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pinnace.core.base.errors import RefusedError
from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject
from pinnace.core.hub.certificates import parse_token
from pinnace.core.hub.settings import Endpoint

_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reach:
    """One try. `stage` is where it ended: name, connection, tls, or "" when all went well; `problem` in words, `took` in seconds."""

    what: str
    address: str
    stage: str = ""
    problem: str = ""
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class CloudFacts:
    """`token_problem` is about the join token in the configuration, "" without one or when it is good; `is_needed` says that there is no
    certificate yet."""

    reaches: list[Reach]
    token_problem: str = ""
    is_needed: bool = False


def read(subject: Subject) -> CloudFacts:
    modules = subject.settings.modules
    hub = modules.edge_hub
    if subject.config is None or not hub.enable:
        return CloudFacts([])
    context = _context(subject)
    places = {"hub": hub.websocket.endpoint}
    has_certificate = subject.path(hub.tls_cert_file).exists()
    if not has_certificate:
        places["bootstrap"] = hub.bootstrap
    if modules.edge_stream.enable:
        places["tunnel"] = Endpoint(*modules.edge_stream.endpoint(hub.websocket.endpoint.host))
    return CloudFacts([_reach(what, place, context) for what, place in places.items()], _token_problem(hub.token), not has_certificate)


def _context(subject: Subject) -> ssl.SSLContext | None:
    hub = subject.settings.modules.edge_hub
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(subject.path(hub.tls_ca_file))
        context.load_cert_chain(subject.path(hub.tls_cert_file), subject.path(hub.tls_private_key_file))
    except (OSError, ValueError):
        return None  # the certificate's own check says why
    return context


def _reach(what: str, place: Endpoint, context: ssl.SSLContext | None) -> Reach:
    began = time.monotonic()
    try:
        socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Reach(what, str(place), "name", error.strerror or str(error))
    try:
        with socket.create_connection((place.host, place.port), timeout=_SECONDS) as plain:
            if context is not None:
                with context.wrap_socket(plain, server_hostname=place.host) as secure:
                    secure.settimeout(0.3)
                    _refusal(secure)
    except ssl.SSLError as error:
        return Reach(what, str(place), "tls", getattr(error, "verify_message", "") or error.reason or str(error))
    except OSError as error:
        return Reach(what, str(place), "connection", error.strerror or str(error))
    return Reach(what, str(place), took=time.monotonic() - began)


def _refusal(secure: ssl.SSLSocket) -> None:
    """With TLS 1.3 a server tells what it thinks of our certificate after the handshake. Raises ssl.SSLError."""
    try:
        secure.recv(1)
    except (TimeoutError, ssl.SSLWantReadError):
        return


def _token_problem(token: str) -> str:
    if not token:
        return ""
    try:
        claims = parse_token(token).jwt.split(".")[1]
        expires = _expiry(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except RefusedError as error:
        return str(error)
    except (ValueError, binascii.Error, IndexError):
        return "its middle part is damaged; copy it again"
    if expires and expires < time.time():
        return f"it expired on {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(expires))}"
    return ""


def _expiry(claims: bytes) -> float:
    import orjson

    found = orjson.loads(claims).get("exp", 0)
    return float(found) if isinstance(found, int | float) else 0.0


def check(facts: CloudFacts) -> Iterator[Finding]:
    for reach in facts.reaches:
        yield _reached(reach)
    if facts.token_problem:
        level = Level.ERROR if facts.is_needed else Level.WARNING
        spare = "" if facts.is_needed else "; it is not needed any more, as there is a certificate"
        yield Finding("token", level, f"the join token in edgecore.yaml: {facts.token_problem}{spare}", "pinnace gettoken  # in the cloud")


def _reached(reach: Reach) -> Finding:
    host, _, port = reach.address.rpartition(":")
    match reach.stage:
        case "":
            return Finding("cloud", Level.OK, f"{reach.what} at {reach.address} answers in {reach.took * 1e3:.0f} ms")
        case "name":
            text = f"{reach.what}: the name {host} is not known here ({reach.problem}); the node works on from its store"
            return Finding("cloud", Level.ERROR, text, f"getent hosts {host}\ncat /etc/resolv.conf")
        case "tls":
            text = f"{reach.what} at {reach.address} and this node do not accept each other's certificates: {reach.problem}"
            return Finding("cloud", Level.ERROR, text, f"openssl s_client -connect {reach.address} </dev/null")
        case _:
            text = f"{reach.what} at {reach.address} cannot be reached ({reach.problem}); the node works on from its store"
            return Finding("cloud", Level.ERROR, text, f"ip route get {host.strip('[]')}\nnc -vz {host.strip('[]')} {port}")
