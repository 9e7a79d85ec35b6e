"""The Secrets: made once, found again, shared between cloudcores, refreshed in time."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime
from pathlib import Path

import pytest
from fakes.clock import FakeClock, settle
from fakes.kube import FakeKube

from pinnace.cloud.hub import pki, tokens
from pinnace.cloud.hub.settings import CloudHubSettings
from pinnace.cloud.hub.vault import CA_SECRET, NAMESPACE, SERVER_SECRET, TOKEN_SECRET, Vault
from pinnace.cloud.kube.resources import NAMESPACES, SECRETS
from pinnace.cloud.ports import Object, Resource
from pinnace.core.base.errors import ConfigError, RemoteError


def settings(folder: Path) -> CloudHubSettings:
    return CloudHubSettings(
        advertise_address=("127.0.0.1",),
        tls_ca_file=folder / "ca.crt",
        tls_ca_key_file=folder / "ca.key",
        tls_cert_file=folder / "server.crt",
        tls_private_key_file=folder / "server.key",
    )


def value(kube: FakeKube, name: str, key: str) -> bytes:
    secret = kube.find(SECRETS, name, NAMESPACE)
    assert secret is not None
    return base64.b64decode(secret["data"][key])


async def opened(kube: FakeKube, folder: Path, clock: FakeClock | None = None) -> Vault:
    vault = Vault(kube, settings(folder), clock or FakeClock())
    await vault.open()
    return vault


async def test_makes_what_is_missing_in_kubeedges_shape(tmp_path: Path) -> None:
    kube = FakeKube()
    vault = await opened(kube, tmp_path)
    assert kube.find(NAMESPACES, NAMESPACE) is not None
    assert value(kube, CA_SECRET, "cadata") == vault.authority.pair.certificate
    assert value(kube, CA_SECRET, "cakeydata") == vault.authority.pair.key
    assert value(kube, SERVER_SECRET, "cloudcoredata") == vault.server.certificate
    assert value(kube, TOKEN_SECRET, "tokendata").decode() == vault.token
    assert tokens.mint(vault.authority.pair.certificate, vault.authority.pair.key, int(tokens.expiry(vault.token))) == vault.token


async def test_a_second_cloudcore_takes_what_is_there(tmp_path: Path) -> None:
    kube = FakeKube()
    first, second = await opened(kube, tmp_path), await opened(kube, tmp_path)
    assert (first.authority.pair, first.server, first.token) == (second.authority.pair, second.server, second.token)


class RacedKube(FakeKube):
    """Lets somebody else store the CA just before we do."""

    other: Vault | None = None

    async def create(self, resource: Resource, body: Object, namespace: str = "", *, name: str = "", subresource: str = "") -> Object:
        if body["metadata"]["name"] == CA_SECRET and self.other is not None:
            other, self.other = self.other, None
            await other.open()
        return await super().create(resource, body, namespace, name=name, subresource=subresource)


async def test_two_that_start_together_agree_on_the_authority(tmp_path: Path) -> None:
    kube = RacedKube()
    mine, other = (Vault(kube, settings(tmp_path), FakeClock()) for _ in range(2))
    kube.other = other
    await mine.open()
    assert mine.authority.pair == other.authority.pair


async def test_files_are_used_and_written_back(tmp_path: Path) -> None:
    made = pki.Authority.new(datetime.datetime.fromtimestamp(FakeClock().wall(), datetime.UTC)).pair
    (tmp_path / "ca.crt").write_bytes(pki.pem(made.certificate))
    (tmp_path / "ca.key").write_bytes(b"-----BEGIN ANYTHING-----\n" + base64.encodebytes(made.key) + b"-----END ANYTHING-----\n")
    kube = FakeKube()
    vault = await opened(kube, tmp_path)
    assert vault.authority.pair == made
    assert value(kube, CA_SECRET, "cadata") == made.certificate


async def test_half_a_pair_of_files_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("x")
    with pytest.raises(ConfigError, match=r"ca\.key is missing while .*ca\.crt exists; tlsCAFile and tlsCAKeyFile belong together"):
        await opened(FakeKube(), tmp_path)


async def test_a_file_that_is_no_pem_is_said(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("x")
    (tmp_path / "ca.key").write_text("y")
    with pytest.raises(ConfigError, match="cannot be read as PEM"):
        await opened(FakeKube(), tmp_path)


async def test_a_damaged_secret_is_not_replaced_in_silence(tmp_path: Path) -> None:
    kube = FakeKube()
    await opened(kube, tmp_path)
    secret = kube.find(SECRETS, CA_SECRET, NAMESPACE)
    assert secret is not None
    secret["data"] = {"cadata": secret["data"]["cadata"]}
    with pytest.raises(ConfigError, match="casecret has no cakeydata; restore it"):
        await opened(kube, tmp_path)


async def test_a_server_certificate_with_other_names_is_made_anew(tmp_path: Path) -> None:
    kube = FakeKube()
    first = await opened(kube, tmp_path)
    other = Vault(kube, dataclasses.replace(settings(tmp_path), advertise_address=("192.0.2.1",)), FakeClock())
    await other.open()
    assert other.authority.pair == first.authority.pair
    assert other.server != first.server


async def test_the_token_is_refreshed_at_half_its_life(tmp_path: Path) -> None:
    kube, clock = FakeKube(), FakeClock()
    vault = await opened(kube, tmp_path, clock)
    first = vault.token
    running = asyncio.create_task(vault.run())
    await settle()
    await clock.advance(12 * 3600 - 2)
    assert vault.token == first
    await clock.advance(3)
    assert vault.token != first
    assert value(kube, TOKEN_SECRET, "tokendata").decode() == vault.token
    tokens.check(first.partition(".")[2], vault.authority.pair.key, clock.wall())  # still good for those who hold it
    running.cancel()


async def test_an_old_token_is_replaced_at_the_start(tmp_path: Path) -> None:
    kube, clock = FakeKube(), FakeClock()
    first = (await opened(kube, tmp_path, clock)).token
    await clock.advance(13 * 3600)
    assert (await opened(kube, tmp_path, clock)).token != first


async def test_an_api_that_is_away_when_the_token_is_due_is_asked_again(tmp_path: Path) -> None:
    kube, clock = FakeKube(), FakeClock()
    vault = await opened(kube, tmp_path, clock)
    first = vault.token
    running = asyncio.create_task(vault.run())
    await settle()

    def fail(verb: str, resource: Resource, name: str) -> None:
        raise RemoteError("not now", code=503)

    kube.fail_with = fail
    await clock.advance(12 * 3600 + 10)
    assert vault.token == first
    kube.fail_with = None
    await clock.advance(31)
    assert vault.token != first
    running.cancel()
