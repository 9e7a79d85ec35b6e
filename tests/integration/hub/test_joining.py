"""A machine becomes a node, or is told why not. Each refusal is one line in the cloud's log and one health fact at the edge."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import logging
import ssl
import tempfile
import time
from pathlib import Path

import pytest
from rig.hub import Cloud, Edge, EdgeMaker, edge_settings
from rig.waiting import until

from pinnace.cloud.hub import tokens
from pinnace.cloud.hub.pki import Authority
from pinnace.cloud.kube.resources import NODES
from pinnace.core.base.aio.clock import LoopClock
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError, LinkError, RefusedError
from pinnace.core.hub.bootstrap import certificate_advice
from pinnace.core.hub.certificates import Certificates


class ShiftedClock(LoopClock):
    """The machine's clock, wrong by some seconds."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def wall(self) -> float:
        return super().wall() + self.shift


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the cloud said about whom it refused."""
    return [
        record.getMessage() for record in caplog.records if "refused" in record.getMessage() and record.name.startswith("pinnace.cloud")
    ]


async def test_joins_with_the_token_and_connects(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = make_edge("192.168.4.22-pi2")
    edge.start()
    await until(lambda: edge.link.connected)
    assert edge.link.peer_wire == 1
    assert edge.health.problems == {}
    assert cloud.hub.connected() == {"192.168.4.22-pi2"}
    files = [edge.settings.tls_ca_file, edge.settings.tls_cert_file, edge.settings.tls_private_key_file]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    assert not [file for file in edge.settings.tls_cert_file.parent.iterdir() if file.name.endswith(".new")]


async def test_starts_again_without_token_and_bootstrap(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = make_edge()
    edge.start()
    await until(lambda: edge.link.connected)
    await edge.stop()
    await cloud.bootstrap.close()
    again = make_edge(token="")
    again.start()
    await until(lambda: again.link.connected)


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c.d", "é" * 64 + ".b.c.d"])
async def test_a_damaged_token_stays_here(cloud: Cloud, make_edge: EdgeMaker, token: str, caplog: pytest.LogCaptureFixture) -> None:
    edge = make_edge(token=token)
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "join token" in edge.health.problem("cloud")
    assert refusals(caplog) == []
    assert not edge.settings.tls_cert_file.exists()


async def test_another_cloud_than_the_tokens_is_not_trusted(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    _, _, jwt = cloud.vault.token.partition(".")
    edge = make_edge(token=f"{'0' * 64}.{jwt}")
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "the join token names 000000000000" in edge.health.problem("cloud")
    assert not edge.settings.tls_ca_file.exists()
    assert refusals(caplog) == []  # the JWT was not sent


async def test_an_expired_token_is_refused(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    pair = cloud.vault.authority.pair
    edge = make_edge(token=tokens.mint(pair.certificate, pair.key, int(time.time()) - 1))
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "token is expired; fetch a new token" in edge.health.problem("cloud")
    (line,) = refusals(caplog)
    assert "status=401" in line
    assert "'edge-1'" in line


async def test_a_forged_token_is_refused(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    other = Authority.new(datetime.datetime.now(datetime.UTC)).pair
    edge = make_edge(token=tokens.mint(cloud.vault.authority.pair.certificate, other.key, int(time.time()) + 3600))
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "token signature is invalid" in edge.health.problem("cloud")
    assert len(refusals(caplog)) == 1


async def test_an_address_that_is_not_in_the_servers_certificate_is_named(cloud: Cloud, tmp_path: Path) -> None:
    settings = dataclasses.replace(edge_settings(cloud, tmp_path), http_server=f"https://localhost:{cloud.https_port}")
    with pytest.raises(RefusedError, match="advertiseAddress"):
        await Certificates(settings, NodeName("edge-1")).join()


def test_a_clock_before_its_time_is_named() -> None:
    """The clock of TLS cannot be shifted here, so the words alone are tested."""
    error = ssl.SSLCertVerificationError(1, "certificate is not yet valid")
    error.verify_code, error.verify_message = 9, "certificate is not yet valid"
    assert certificate_advice(error).endswith("set this machine's clock")


async def test_a_bootstrap_that_is_away_is_asked_again(cloud: Cloud, make_edge: EdgeMaker) -> None:
    token = cloud.vault.token
    await cloud.stop()
    edge = make_edge(token=token)
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "cannot be reached" in edge.health.problem("cloud")
    await cloud.start()
    await until(lambda: edge.link.connected)
    assert edge.health.problems == {}


async def test_a_bootstrap_that_speaks_no_http_is_named(cloud: Cloud, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=cloud.vault.context(certificate_required=False))
    port = server.sockets[0].getsockname()[1]
    settings = dataclasses.replace(edge_settings(cloud, tmp_path), http_server=f"https://127.0.0.1:{port}")
    with pytest.raises(LinkError, match="does not speak HTTP"):
        await Certificates(settings, NodeName("edge-1")).join()
    server.close()


async def test_says_whether_the_name_is_taken(cloud: Cloud, tmp_path: Path) -> None:
    certificates = Certificates(edge_settings(cloud, tmp_path), NodeName("edge-1"))
    assert await certificates.is_name_taken() is False
    cloud.kube.put(NODES, {"metadata": {"name": "edge-1"}})
    assert await certificates.is_name_taken() is True


async def test_another_nodes_files_are_replaced_by_joining(cloud: Cloud, make_edge: EdgeMaker, tmp_path: Path) -> None:
    first = make_edge("edge-1", folder=tmp_path / "shared")
    first.start()
    await until(lambda: first.link.connected)
    await first.stop()
    second = make_edge("edge-2", folder=tmp_path / "shared")
    second.start()
    await until(lambda: second.link.connected)
    assert cloud.hub.connected() == {"edge-2"}


async def test_a_power_cut_between_the_files_is_mended(cloud: Cloud, make_edge: EdgeMaker) -> None:
    edge = make_edge()
    edge.start()
    await until(lambda: edge.link.connected)
    await edge.stop()
    certificate = edge.settings.tls_cert_file
    right = certificate.read_bytes()
    other = make_edge("edge-2")
    other.start()
    await until(lambda: other.link.connected)
    certificate.with_name("server.crt.new").write_bytes(right)
    certificate.write_bytes(other.settings.tls_cert_file.read_bytes())
    again = make_edge(token="")
    again.start()
    await until(lambda: again.link.connected)
    assert certificate.read_bytes() == right


async def test_renews_in_time_and_reconnects(cloud: Cloud, make_edge: EdgeMaker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    joined = make_edge()
    joined.start()
    await until(lambda: joined.link.connected)
    await joined.stop()
    before = joined.settings.tls_cert_file.read_bytes()
    cloud.events.clear()
    edge = make_edge(token="", clock=ShiftedClock(360 * 86400.0))
    edge.start()
    await until(lambda: cloud.events.count(("edge-1", True)) == 2)
    await until(lambda: edge.link.connected)
    assert edge.settings.tls_cert_file.read_bytes() != before
    assert edge.health.problems == {}
    assert sum("hub.certificate.renewed" in record.getMessage() for record in caplog.records) == 1


async def test_an_expired_certificate_needs_a_token(cloud: Cloud, make_edge: EdgeMaker) -> None:
    joined = make_edge()
    joined.start()
    await until(lambda: joined.link.connected)
    await joined.stop()
    edge = make_edge(token="", clock=ShiftedClock(366 * 86400.0))
    edge.start()
    await until(lambda: edge.health.problem("cloud"))
    assert "and no join token is set" in edge.health.problem("cloud")
    assert "has expired, or this machine's clock is ahead (it says 20" in edge.health.problem("cloud")


class QuickClock(ShiftedClock):
    """Waits are short."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))


async def joined_long_ago(make_edge: EdgeMaker, *, token: str | None = "") -> tuple[Edge, QuickClock]:
    """An edge, not running yet, whose certificate is due to be renewed."""
    first = make_edge()
    first.start()
    await until(lambda: first.link.connected)
    await first.stop()
    clock = QuickClock(360 * 86400.0)
    return make_edge(token=token, clock=clock), clock


async def test_a_renewed_certificate_that_cannot_be_written_is_still_due(cloud: Cloud, make_edge: EdgeMaker) -> None:
    """Else nobody would try again until the one in use has expired."""
    edge = make_edge()
    edge.start()
    await until(lambda: edge.link.connected)
    draws = iter((0.1, 0.2))
    certificates = Certificates(edge.settings, NodeName("edge-1"), draw=lambda: next(draws))
    await certificates.context()
    due = certificates.renew_at
    obstacle = edge.settings.tls_cert_file.with_name("server.crt.new")
    obstacle.mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        await certificates.renew()
    assert certificates.renew_at == due
    obstacle.rmdir()
    await certificates.renew()
    assert certificates.renew_at > due


async def test_no_place_for_a_new_key_leaves_the_link_alone(
    cloud: Cloud, make_edge: EdgeMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edge, _ = await joined_long_ago(make_edge)
    cloud.events.clear()
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    edge.start()
    await until(lambda: "No such file" in edge.health.problem("certificate"))
    assert cloud.events.count(("edge-1", True)) == 1
    assert edge.link.connected
    monkeypatch.undo()
    await until(lambda: cloud.events.count(("edge-1", True)) > 1)
    await until(lambda: not edge.health.problem("certificate"))


async def test_joining_anew_ends_the_trouble_with_renewing(cloud: Cloud, make_edge: EdgeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(_self: Certificates) -> None:
        raise LinkError("not today")

    monkeypatch.setattr(Certificates, "renew", refused)
    edge, clock = await joined_long_ago(make_edge, token=None)
    edge.start()
    await until(lambda: "not today" in edge.health.problem("certificate"))
    clock.shift = 366 * 86400.0  # it has expired: the next connection begins with joining
    await cloud.stop()
    await until(lambda: not edge.link.connected)
    before = edge.settings.tls_cert_file.read_bytes()
    await cloud.start()
    await until(lambda: edge.settings.tls_cert_file.read_bytes() != before)
    clock.shift = 0.0
    await until(lambda: not edge.health.problems)
