"""The registry of the tests is a real one: it asks for passwords and tokens, and gives back what was pushed."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from integration.mosquitto import make_tls
from rig.images import busybox
from rig.registry import Registry, TokenServer

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def manifest(registry: Registry, authorization: str = "") -> bytes:
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json", "Authorization": authorization}
    with OPENER.open(urllib.request.Request(f"{registry.url}/v2/library/b/manifests/1", headers=headers), timeout=20) as answer:
        return bytes(answer.read())


def test_an_open_registry_gives_back_what_was_pushed(tmp_path: Path) -> None:
    image = busybox()
    with Registry(tmp_path) as registry:
        assert registry.push("library/b:1", image) == image.manifest.digest
        assert manifest(registry) == image.manifest.read()
        assert registry.gets("/manifests/1") == 1
        assert registry.stored(image.config).read_bytes() == image.config.read()


def test_a_registry_with_passwords_asks_for_them(tmp_path: Path) -> None:
    with Registry(tmp_path, users={"pi": "secret"}) as registry:
        registry.push("library/b:1", busybox())
        with pytest.raises(urllib.error.HTTPError, match="401"):
            manifest(registry, "Basic " + base64.b64encode(b"pi:wrong").decode())
        assert manifest(registry, "Basic " + base64.b64encode(b"pi:secret").decode())


def test_a_registry_with_tokens_takes_those_of_its_server(tmp_path: Path) -> None:
    tokens = TokenServer(users={"pi": "secret"})
    with Registry(tmp_path, tokens=tokens) as registry:
        registry.push("library/b:1", busybox())
        with pytest.raises(urllib.error.HTTPError, match="401"):
            manifest(registry)
        assert manifest(registry, f"Bearer {tokens.token('pi', 'rig', ['repository:library/b:pull'])}")


def test_a_registry_with_tls_has_a_certificate_of_the_test_authority(tmp_path: Path) -> None:
    with Registry(tmp_path, tls=make_tls(tmp_path / "tls")) as registry:
        assert registry.push("library/b:1", busybox()).startswith("sha256:")
