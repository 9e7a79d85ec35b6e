"""What registries say about images: chosen for this machine, or refused in plain words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pinnace.core.base.runtime import PullFailed
from pinnace.core.pods.images import manifests

DIGEST = "sha256:" + "0" * 64
OCI = "application/vnd.oci.image."
LAYER = OCI + "layer.v1.tar+gzip"


def entry(architecture: str, variant: str = "", *, system: str = "linux", digit: str = "1") -> dict[str, Any]:
    platform = {"os": system, "architecture": architecture, **({"variant": variant} if variant else {})}
    return {"mediaType": OCI + "manifest.v1+json", "digest": "sha256:" + digit * 64, "size": 5, "platform": platform}


@pytest.mark.parametrize(
    ("machine", "offered", "chosen"),
    [
        ("x86_64", [("arm64", "v8"), ("amd64", "")], "2"),
        ("x86_64", [("386", "")], "1"),
        ("aarch64", [("arm", "v7"), ("arm64", "v8")], "2"),
        ("aarch64", [("arm", "v6"), ("arm", "v7")], "2"),
        ("armv7l", [("arm", "v5"), ("arm", "v6"), ("arm64", "")], "2"),
        ("armv7l", [("arm", "v6"), ("arm", "")], "2"),
        ("armv6l", [("arm", "v7"), ("arm", "v6")], "2"),
        ("riscv64", [("riscv64", "")], "1"),
    ],
)
def test_the_best_of_an_index(machine: str, offered: list[tuple[str, str]], chosen: str) -> None:
    listed = [entry(*each, digit=str(number)) for number, each in enumerate(offered, 1)]
    assert manifests.choose({"manifests": listed}, manifests.platforms(machine)).digest[-1] == chosen


def test_an_index_may_not_have_this_machine() -> None:
    offered = [entry("arm", "v7"), entry("amd64", system="windows"), entry("unknown", system="unknown")]
    with pytest.raises(PullFailed, match=r"linux/armv6thing.*it has: linux/arm/v7$"):
        manifests.choose({"manifests": offered}, ("armv6thing",))


def test_a_single_image_without_a_platform_is_taken() -> None:
    plain = {key: value for key, value in entry("amd64").items() if key != "platform"}
    assert manifests.choose({"manifests": [plain]}, ("arm64",)).size == 5


@pytest.mark.parametrize(
    ("document", "media_type", "words"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema 1"),
        ({"schemaVersion": 2}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ({}, "", "no image manifest"),
        ({"schemaVersion": 2}, "", "not what its media type"),
        ({"schemaVersion": 2, "layers": [], "manifests": []}, "", "at once"),
        ({"schemaVersion": 2, "layers": [], "mediaType": OCI + "index.v1+json"}, "", "not what its media type"),
        ({"schemaVersion": 2, "manifests": []}, OCI + "manifest.v1+json", "not what its media type"),
    ],
)
def test_what_is_neither_image_nor_index(document: dict[str, Any], media_type: str, words: str) -> None:
    with pytest.raises(PullFailed, match=words):
        manifests.is_index(document, media_type)


def descriptor(**changed: Any) -> dict[str, Any]:
    return {"mediaType": LAYER, "digest": DIGEST, "size": 1, **changed}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (None, "no layers"),
        ([5], "points at nothing"),
        ([descriptor(digest="sha256:../../etc/passwd")], "digest that is none"),
        ([descriptor(digest="md5:" + "0" * 32)], "digest that is none"),
        ([descriptor(size=-1)], "no size"),
        ([descriptor(size=True)], "no size"),
        ([descriptor(size="1")], "no size"),
        ([descriptor(mediaType="application/vnd.cncf.helm.chart.content.v1.tar+gzip")], "no container image"),
        ([descriptor()] * 128, "more than 127"),
    ],
)
def test_what_no_manifest_may_say(layers: Any, words: str) -> None:
    with pytest.raises(PullFailed, match=words):
        manifests.manifest({"config": descriptor(), "layers": layers})


def test_a_configuration() -> None:
    found = manifests.config_file(
        {
            "os": "linux",
            "rootfs": {"diff_ids": [DIGEST]},
            "config": {
                "Env": ["A=1", "B=x=y", "broken"], "Cmd": ["a"], "Entrypoint": "one word", "User": "1:2", "WorkingDir": "/w",
                "StopSignal": "SIGINT", "Volumes": {"/data": {}},
            },
        },
        1,
    )  # fmt: skip
    config = found.config
    assert config.env == (("A", "1"), ("B", "x=y"))
    assert (config.cmd, config.entrypoint, config.volumes) == (("a",), ("one word",), ("/data",))
    assert (config.user, config.working_dir, config.stop_signal) == ("1:2", "/w", "SIGINT")
    assert manifests.config_file({"rootfs": {"diff_ids": []}, "config": None}).config.env == ()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "lists no layers"),
        ({"rootfs": {"diff_ids": ["x"]}}, "lists no layers"),
        ({"rootfs": {"diff_ids": [DIGEST, DIGEST]}}, "has 1 layers"),
        ({"rootfs": {"diff_ids": [DIGEST]}, "os": "windows"}, "for windows"),
    ],
)
def test_a_configuration_that_does_not_fit(document: dict[str, Any], words: str) -> None:
    with pytest.raises(PullFailed, match=words):
        manifests.config_file(document, 1)


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b"{", orjson.dumps([{}])])
def test_what_is_no_json_object(text: bytes) -> None:
    with pytest.raises(PullFailed, match="the manifest is no JSON"):
        manifests.read(text, "the manifest")
