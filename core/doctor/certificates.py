"""The node's certificate: is it there, whole, its own, in its time, and its key nobody else's."""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pinnace.core.base.contract.keys import NODE_COMMON_NAME
from pinnace.core.base.errors import ConfigError
from pinnace.core.doctor.finding import Finding, Level
from pinnace.core.doctor.subject import Subject
from pinnace.core.hub import openssl

_LATE_PART: Final = 0.05
"""A running node renews between 0.7 and 0.9 of a certificate's life: one with less left than this was not renewed."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Times in Unix seconds. `problem` is why the files cannot be used together, `chain_problem` why the authority did not sign."""

    certificate: str
    key: str
    authority: str
    missing: list[str]
    node: str
    now: float
    has_joined: bool = True
    has_token: bool = False
    common_name: str = ""
    not_before: float = 0.0
    not_after: float = 0.0
    key_mode: int = 0o600
    problem: str = ""
    chain_problem: str = ""


def read(subject: Subject) -> CertificateFacts:
    """Raises PermissionError where only root may look, ConfigError without openssl: neither is the certificate's fault."""
    hub = subject.settings.modules.edge_hub
    files = [hub.tls_cert_file, hub.tls_private_key_file, hub.tls_ca_file]
    missing = [str(each) for each in files if not subject.path(each).exists()]
    names = [str(each) for each in files]
    node = str(subject.settings.node)
    given = (names[0], names[1], names[2], missing, node, time.time(), subject.config is not None, bool(hub.token))
    if missing:
        return CertificateFacts(*given)
    certificate, key, authority = map(subject.path, files)
    mode = stat.S_IMODE(key.stat().st_mode)
    try:
        facts = asyncio.run(openssl.look(certificate.read_bytes()))
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        return CertificateFacts(*given, key_mode=mode, problem=f"{names[0]} cannot be read: {getattr(error, 'strerror', None) or error}")
    return CertificateFacts(
        *given,
        facts.common_name,
        facts.not_before,
        facts.not_after,
        mode,
        _pair_problem(certificate, key),
        _chain_problem(certificate, authority),
    )


def _pair_problem(certificate: Path, key: Path) -> str:
    import ssl

    try:
        with key.open("rb"):  # what OpenSSL may not read it calls damaged
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return str(error)
    return ""


def _chain_problem(certificate: Path, authority: Path) -> str:
    """Whether the authority signed it; its time is another matter."""
    try:
        openssl.verify(certificate, authority)
    except ValueError as error:
        return str(error)
    except ConfigError:
        return ""
    return ""


def check(facts: CertificateFacts) -> Iterator[Finding]:
    anew = "pinnace join --force --cloudcore-ipport HOST --token-file FILE  # with a token of `pinnace gettoken`"
    if len(facts.missing) == 3 and not facts.has_joined:
        yield Finding("certificate", Level.WARNING, "this machine has not joined yet", anew.replace(" --force", ""))
        return
    if facts.missing:
        token = "; the token in edgecore.yaml is used at the start" if facts.has_token else ""
        level = Level.WARNING if facts.has_token else Level.ERROR
        yield Finding("certificate", level, f"missing: {', '.join(facts.missing)}{token}", "" if facts.has_token else anew)
        return
    if facts.problem:
        yield Finding("certificate", Level.ERROR, f"certificate and key do not work together: {facts.problem}", anew)
        return
    yield from _its_own(facts, anew)
    yield _its_time(facts, anew)
    if facts.key_mode & 0o077:
        text = f"{facts.key} may be read by others than root (mode {facts.key_mode:o})"
        yield Finding("certificate", Level.ERROR, text, f"chmod 600 {facts.key}")


def _its_own(facts: CertificateFacts, anew: str) -> Iterator[Finding]:
    if facts.common_name and facts.common_name != NODE_COMMON_NAME + facts.node:
        text = f"{facts.certificate} is for {facts.common_name}, and this node is {facts.node}: the cloud refuses it"
        yield Finding("certificate", Level.ERROR, text, anew)
    if facts.chain_problem:
        text = f"{facts.authority} did not sign {facts.certificate} ({facts.chain_problem}): they are of two clouds, or one was set up anew"
        yield Finding("certificate", Level.ERROR, text, anew)


def _its_time(facts: CertificateFacts, anew: str) -> Finding:
    until = time.strftime("%Y-%m-%d", time.gmtime(facts.not_after))
    if facts.now < facts.not_before:
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(facts.not_before))
        return Finding("certificate", Level.ERROR, f"it is valid only from {since} UTC on: the clock is behind", "timedatectl set-ntp true")
    if facts.now >= facts.not_after:
        today = time.strftime("%Y-%m-%d", time.gmtime(facts.now))
        ahead = f"date -us 'YYYY-MM-DD HH:MM' && touch /var/lib/systemd/timesync/clock  # if it is not {today} today: the clock is ahead"
        text = f"it has expired on {until}, and this clock says {today}: the cloud refuses it"
        return Finding("certificate", Level.ERROR, text, f"{ahead}\n{anew}")
    days = (facts.not_after - facts.now) / 86_400
    if facts.not_after - facts.now < (facts.not_after - facts.not_before) * _LATE_PART:
        text = f"it expires on {until}, in {days:.0f} days, and was not renewed: was the node away from its cloud for long?"
        return Finding(
            "certificate", Level.WARNING, text, "systemctl restart pinnace-edge && journalctl -u pinnace-edge -n 50 | grep certificate"
        )
    return Finding("certificate", Level.OK, f"{facts.common_name}, until {until} ({days:.0f} days)")
