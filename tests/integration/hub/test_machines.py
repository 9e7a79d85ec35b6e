"""Two machines of one name: who lives keeps the name, who is lost gives it up. And a whole first boot."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.clock import FakeClock
from rig.hub import Cloud, Edge, edge_settings
from rig.processes import free_port, pinnace
from rig.waiting import until

from pinnace.cloud.hub import tokens
from pinnace.cloud.hub.bootstrap import may_take_name
from pinnace.cloud.hub.pki import Authority
from pinnace.cloud.kube.resources import NODES
from pinnace.cloud.ports import Resource
from pinnace.core.appliance.wishes import LIMIT
from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import LinkError, RefusedError
from pinnace.core.hub.certificates import Certificates, pem

FIRST, SECOND = "1" * 32, "2" * 32
HAS_NEWS = Path(__file__).resolve().parents[3] / "packaging/image/files/usr/lib/pinnace/has-news"


def node(machine: str, *, ready: str = "True") -> dict[str, object]:
    status = {"nodeInfo": {"machineID": machine}, "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"name": "edge-1"}, "status": status}


@pytest.mark.parametrize(
    ("there", "machine", "may"),
    [
        (node(FIRST), FIRST, True),
        (node(FIRST), SECOND, False),
        (node(FIRST), "", False),
        (node(FIRST, ready="Unknown"), SECOND, True),
        (node(FIRST, ready="False"), SECOND, True),
        (node(FIRST, ready="Unknown"), "", False),
        ({"metadata": {"name": "edge-1"}}, SECOND, True),
    ],
)
def test_who_may_have_the_name(there: dict[str, object], machine: str, may: bool) -> None:
    assert may_take_name(there, machine) is may


async def test_the_newcomer_is_refused_while_the_first_lives_and_takes_over_when_it_is_lost(cloud: Cloud, tmp_path: Path) -> None:
    newcomer = Certificates(edge_settings(cloud, tmp_path), NodeName("edge-1"), machine=SECOND)
    cloud.kube.put(NODES, node(FIRST))
    assert await newcomer.is_name_taken() is True
    with pytest.raises(RefusedError, match="Ready on another machine"):
        await newcomer.join()
    assert not edge_settings(cloud, tmp_path).tls_cert_file.exists()
    cloud.kube.put(NODES, node(FIRST, ready="Unknown"))
    assert await newcomer.is_name_taken() is False
    await newcomer.join()
    await Certificates(edge_settings(cloud, tmp_path / "first"), NodeName("edge-1"), machine=FIRST).join()


async def test_an_api_that_does_not_answer_is_no_permission_and_no_refusal(cloud: Cloud, tmp_path: Path) -> None:
    def away(verb: str, resource: Resource, name: str) -> None:
        raise LinkError("nobody answers here")

    newcomer = Certificates(edge_settings(cloud, tmp_path), NodeName("edge-1"), machine=SECOND)
    cloud.kube.fail_with = away
    for asked in (newcomer.join, newcomer.is_name_taken):
        with pytest.raises(LinkError, match="answered 50"):
            await asked()
    cloud.kube.fail_with = None
    await newcomer.join()


async def test_renewing_asks_no_machine(cloud: Cloud, tmp_path: Path) -> None:
    certificates = Certificates(edge_settings(cloud, tmp_path), NodeName("edge-1"), machine=FIRST)
    await certificates.join()
    cloud.kube.put(NODES, node(SECOND))
    await certificates.renew()


async def test_the_clouds_clock(cloud: Cloud, tmp_path: Path) -> None:
    assert abs(await Certificates(edge_settings(cloud, tmp_path), NodeName("edge-1")).time() - time.time()) < 60


async def test_the_clouds_clock_is_told_whatever_ours_says_of_its_certificate(tmp_path: Path) -> None:
    ahead = Cloud(clock=FakeClock(wall=time.time() + 400 * 86_400))
    await ahead.start()
    try:
        told = Certificates(edge_settings(ahead, tmp_path), NodeName("edge-1"))
        assert await told.time() > 0
        with pytest.raises(RefusedError, match="not yet valid"):
            await told.is_name_taken()
    finally:
        await ahead.stop()


async def test_only_the_cloud_tells_the_clouds_clock(cloud: Cloud, tmp_path: Path) -> None:
    """Whoever is in between has its certificate, and not its key."""
    now = datetime.datetime.now(datetime.UTC)
    pair = Authority.new(now).issue_server(["127.0.0.1"], now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    both = tmp_path / "both.pem"
    both.write_bytes(pem(pair.certificate) + pem(pair.key).replace(b" CERTIFICATE", b" EC PRIVATE KEY"))
    context.load_cert_chain(both)
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            writer.write(b"HTTP/1.0 200 OK\r\nDate: Sat, 01 Jan 2050 00:00:00 GMT\r\n\r\n" + cloud.vault.authority.pair.certificate)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", ssl=context) as between:
        port = between.sockets[0].getsockname()[1]
        settings = replace(edge_settings(cloud, tmp_path), http_server=f"https://127.0.0.1:{port}")
        with pytest.raises(RefusedError, match="was the cloud set up anew"):
            await Certificates(settings, NodeName("edge-1")).time()
        assert asked == 1, "for the authority's certificate, which the token knows"


async def test_a_second_machine_cannot_connect_under_a_name_that_is_connected(cloud: Cloud, tmp_path: Path) -> None:
    first, again, other = (
        Edge(edge_settings(cloud, tmp_path / name), "edge-1", machine=machine)
        for name, machine in (("first", FIRST), ("again", FIRST), ("other", SECOND))
    )
    try:
        first.start()
        await until(lambda: first.link.connected)
        other.start()
        await until(lambda: other.health.problem("cloud"))
        assert f"{http.HTTPStatus.CONFLICT.value} another machine is connected as edge-1" in other.health.problem("cloud")
        assert first.link.connected
        again.start()
        await until(lambda: again.link.connected)
        await again.stop()
        await first.stop()
        await until(lambda: other.link.connected)
    finally:
        for each in (first, again, other):
            await each.stop()


class Card:
    """A card's partitions as folders, and first boots from it, each a process of its own."""

    def __init__(self, folder: Path, cloud: Cloud, machine: str) -> None:
        self.boot, self.data, self.run = folder / "boot", folder / "data", folder / "run"
        self._cloud = cloud
        self._programs = folder / "bin"
        for each in (self.boot, self.data / "etc", self.run, self._programs):
            each.mkdir(parents=True)
        (self._programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{folder}/asked\n')
        (self._programs / "systemctl").chmod(0o755)
        (self.run / "slot").write_text("a\n")
        (self.data / "etc/machine-id").write_text(machine + "\n")

    def write(self, *, token: str = "", is_emptied: bool = False, node: str = "edge-1", port: int = 0, more: str = "") -> None:
        cloud = self._cloud
        (self.boot / "pinnace.yaml").write_text(
            f"cloud: 127.0.0.1\ntoken: {'' if is_emptied else token or cloud.vault.token}\nnode: {node}\n"
            f"ports: {{hub: {cloud.hub_port}, bootstrap: {port or cloud.https_port}}}\n{more}"
        )

    async def start(self) -> int:
        """In a host name space of its own: the first boot gives the machine a name."""
        private = ["unshare", "--uts"] if os.geteuid() == 0 and shutil.which("unshare") else []
        places = ["--boot", self.boot, "--data", self.data, "--run-dir", self.run, "--root", self.data]
        child = await asyncio.create_subprocess_exec(
            *private,
            *pinnace("firstboot", *map(str, places), "--attempts", "1"),
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{self._programs}:/usr/bin"},
        )
        return await child.wait()

    @property
    def asked(self) -> list[str]:
        """Of systemd, a line each."""
        return (self._programs.parent / "asked").read_text().splitlines()

    @property
    def has_news(self) -> bool:
        """Whether the image would run the first boot at this start."""
        script = HAS_NEWS.read_text()
        for place, stand_in in (("/boot/firmware/", self.boot), ("/data/", self.data), ("/run/pinnace-boot/", self.run)):
            assert place in script
            script = script.replace(place, f"{stand_in}/")
        return subprocess.run(["/bin/sh", "-c", script], check=False).returncode == 0

    @property
    def report(self) -> str:
        return (self.boot / "pinnace-report.txt").read_text()

    @property
    def certificate_file(self) -> Path:
        return self.data / "etc/kubeedge/certs/server.crt"

    @property
    def certificate(self) -> bytes:
        return self.certificate_file.read_bytes()

    @property
    def config(self) -> str:
        path = self.data / "etc/kubeedge/config/edgecore.yaml"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def make_card(cloud: Cloud, tmp_path: Path) -> Callable[[str, str], Card]:
    return lambda name, machine: Card(tmp_path / name, cloud, machine)


async def test_a_board_joins_and_keeps_what_it_had_through_every_mistake(cloud: Cloud, make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    assert await card.start() == 0
    assert "pinnace.yaml is not there" in card.report

    card.write(port=free_port())
    assert await card.start() == 1
    assert "not joined" in card.report
    assert "cannot be reached" in card.report
    assert card.config == ""

    pair = cloud.vault.authority.pair
    card.write(token=tokens.mint(pair.certificate, pair.key, int(time.time()) - 10))
    assert await card.start() == 1
    assert "token is expired; fetch a new token with `pinnace gettoken`" in card.report

    card.write(more="labels: {place: roof}\n")
    assert await card.start() == 0
    assert "joined" in card.report
    assert "place: roof" in card.config
    assert (card.data / "etc/hostname").read_text() == "edge-1\n"
    certificate = card.certificate

    card.write(more="labels: {place: roof}\nwifi: {country: DE, name: home, password: hush-hush}\n")
    assert await card.start() == 0
    assert "nothing has changed" in card.report
    assert "hush-hush" in (card.data / "etc/wpa_supplicant.conf").read_text()
    assert "hush-hush" not in card.report
    assert card.certificate == certificate, "wifi is no reason to join anew"

    before = card.config
    (card.boot / "pinnace.yaml").write_text("cloud: 127.0.0.1\ntoken: \0\0\0")
    assert await card.start() == 0
    assert "line 2: the file is damaged from here" in card.report
    assert "goes on as the node that it was" in card.report
    assert card.config == before
    assert (card.data / "etc/wpa_supplicant.conf").exists()

    (card.boot / "pinnace.yaml").write_bytes(b"#" * (LIMIT + 1))
    assert await card.start() == 0
    assert "expected a few lines" in card.report
    assert card.config == before


async def test_a_board_that_has_joined_needs_no_token_for_what_the_cloud_need_not_know(
    cloud: Cloud, make_card: Callable[[str, str], Card]
) -> None:
    card = make_card("card", FIRST)
    card.write()
    assert await card.start() == 0
    certificate = card.certificate
    pair = cloud.vault.authority.pair
    expired = tokens.mint(pair.certificate, pair.key, int(time.time()) - 10)

    card.write(token=expired, more="labels: {place: roof}\n")
    assert await card.start() == 0
    assert "joined before, labels or the tunnel are new" in card.report
    assert "not joined" not in card.report
    assert "place: roof" in card.config

    card.write(more="labels: {place: roof}\nwifi: {country: DE, name: home, password: hush-hush}\n", is_emptied=True)
    assert await card.start() == 0
    assert "all right" in card.report
    assert "joined before, nothing has changed" in card.report
    assert "hush-hush" in (card.data / "etc/wpa_supplicant.conf").read_text()

    card.write(token=expired, node="", more="labels: {place: roof}\n")
    (card.data / "etc/pinnace.yaml").unlink()  # the power was cut after the joining, before that was written down
    assert await card.start() == 0
    assert "nothing has changed" in card.report
    assert "node           edge-1" in card.report, "the name it has joined with"
    assert (card.data / "etc/pinnace.yaml").read_bytes() == (card.boot / "pinnace.yaml").read_bytes()
    assert card.certificate == certificate


async def test_a_board_needs_a_token_where_the_cloud_must_let_it_in_anew(cloud: Cloud, make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    card.write()
    assert await card.start() == 0
    before, certificate = card.config, card.certificate

    card.write(node="edge-2", is_emptied=True)
    assert await card.start() == 0
    assert "line 2: token: nothing is written here" in card.report
    assert "goes on as the node that it was" in card.report

    stranger = Authority.new(datetime.datetime.now(datetime.UTC)).pair
    card.write(token=tokens.mint(stranger.certificate, stranger.key, int(time.time()) + 3600))
    assert await card.start() == 1
    assert "not joined: the server's CA certificate has hash" in card.report, "another cloud's token asks for another certificate"
    assert (card.config, card.certificate) == (before, certificate)

    card.write(node="edge-2")
    assert await card.start() == 0
    assert "hostnameOverride: edge-2" in card.config
    assert card.certificate != certificate

    card.certificate_file.unlink()
    card.write(node="edge-2", more="labels: {place: roof}\n")
    assert await card.start() == 0
    assert "127.0.0.1: joined\r\n" in (card.boot / "pinnace-report.txt").read_bytes().decode()
    assert card.certificate


async def test_the_report_is_made_anew_when_what_it_tells_is_mended(make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    assert card.has_news
    card.write()
    assert await card.start() == 0
    assert not card.has_news

    right = (card.boot / "pinnace.yaml").read_text()
    (card.boot / "pinnace.yaml").write_text(f"{right}label: {{place: roof}}\n")
    assert card.has_news
    assert await card.start() == 0
    assert "1 thing to mend" in card.report
    (card.boot / "pinnace.yaml").write_text(right)
    await _is_made_anew(card, "to mend")

    report = card.boot / "pinnace-report.txt"
    report.write_text("Pinnace could not start.\r\n\r\nno disk has the signature\r\n")
    await _is_made_anew(card, "could not start")
    report.unlink()
    await _is_made_anew(card, "could not start")

    (card.data / "boot").mkdir()
    (card.data / "boot/failed").write_text("b its node was not Ready in time\n")
    (card.run / "damaged").touch()
    assert card.has_news
    assert await card.start() == 0
    assert "was given up" in card.report
    assert "is damaged" in card.report
    (card.run / "damaged").unlink()
    await _is_made_anew(card, "given up", "damaged")


async def _is_made_anew(card: Card, *gone: str) -> None:
    assert card.has_news
    assert await card.start() == 0
    assert "pinnace.yaml   all right" in card.report
    assert not [each for each in gone if each in card.report]
    assert not card.has_news, "not at each start"


async def test_a_wished_time_server_counts_from_the_first_start(make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    card.write(more="timeserver: 192.0.2.1\n")
    assert await card.start() == 0
    assert card.asked[0] == "--no-block try-restart systemd-timesyncd.service"


async def test_two_cards_with_one_name(cloud: Cloud, make_card: Callable[[str, str], Card]) -> None:
    first, second = make_card("first", FIRST), make_card("second", SECOND)
    first.write()
    assert await first.start() == 0
    cloud.kube.put(NODES, node(FIRST))
    second.write()
    assert await second.start() == 1
    assert "there is a node edge-1 already" in second.report
    assert second.config == ""
    cloud.kube.put(NODES, node(FIRST, ready="Unknown"))
    assert await second.start() == 0
    assert "joined" in second.report


async def test_a_full_card_is_told(make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    card.write()
    (card.data / "etc/hostname").mkdir()  # as good as any place that cannot be written, also for root
    await card.start()
    assert "the card cannot be written" in card.report


async def test_a_card_that_is_full_when_it_has_joined_goes_on_as_the_node_it_became(make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    card.write()
    (card.data / "etc/pinnace.yaml").mkdir()
    assert await card.start() == 0
    assert "joined" in card.report
    assert "the card cannot be written" in card.report


async def test_what_the_initramfs_found_is_told(make_card: Callable[[str, str], Card]) -> None:
    card = make_card("card", FIRST)
    card.write()
    (card.run / "damaged").touch()
    (card.data / "boot").mkdir()
    (card.data / "boot/failed").write_text("b its node was not Ready in time\n")
    assert await card.start() == 0
    assert "One of the two roots on the card is damaged" in card.report
    assert "The upgrade in root b was given up: its node was not Ready in time." in card.report
    assert not (card.data / "boot/failed").exists(), "told once"
    (card.data / "boot/failed").write_text("b it is damaged\n")
    (card.boot / "pinnace-report.txt").unlink()
    (card.boot / "pinnace-report.txt").mkdir()  # as good as a boot partition that cannot be written
    assert await card.start() == 0
    assert (card.data / "boot/failed").exists(), "not told yet"
    (card.boot / "pinnace-report.txt").rmdir()
    (card.run / "worn").write_text("the card can no longer be written: replace the card\n")
    card.write(token="0" * 64 + ".a.b.c")
    assert await card.start() == 0
    assert "The card can no longer be written" in card.report
    assert "not joined" not in card.report, "what cannot be kept is not fetched"
