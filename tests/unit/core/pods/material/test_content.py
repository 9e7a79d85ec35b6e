"""Which files a volume made of objects has."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.pod import Pod
from pinnace.core.pods.material.atomic import File
from pinnace.core.pods.material.content import Held, Needed, claims, files_of, needs
from pinnace.core.pods.material.tokens import Claim
from pinnace.core.pods.rules.env import Surroundings

AROUND = Surroundings((), ("192.168.4.10",), "pi", {"cpu": "4", "memory": "1Gi"})
POD = Pod(
    {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"tier": "a"}},
        "spec": {"serviceAccountName": "clerk", "containers": [{"name": "main", "resources": {"limits": {"memory": "64Mi"}}}]},
    }
)
APP = ResourceKey("configmap", "shop", "app")
LOGIN = ResourceKey("secret", "shop", "login")
OBJECTS = {
    APP: {"metadata": {}, "data": {"color": "red", "size": "1"}, "binaryData": {"logo": base64.b64encode(b"\x00\xff").decode()}},
    LOGIN: {"metadata": {}, "data": {"password": base64.b64encode(b"hush").decode()}},
}
CLAIM = Claim("shop", "clerk", "", 3607, "web", "u-1")


def held(**more: Any) -> Held:
    return Held(OBJECTS, {CLAIM: "a.b.c"}, AROUND, **more)


def files(volume: dict[str, Any], using: Held | None = None) -> dict[str, File]:
    return files_of(POD, {"name": "v", **volume}, using or held())


def test_a_config_map_with_everything() -> None:
    assert files({"configMap": {"name": "app"}}) == {
        "color": File(b"red", 0o644),
        "size": File(b"1", 0o644),
        "logo": File(b"\x00\xff", 0o644),
    }


def test_items_and_modes() -> None:
    items = [{"key": "color", "path": "deep/er", "mode": 0o400}, {"key": "logo", "path": "logo.png"}]
    assert files({"configMap": {"name": "app", "items": items, "defaultMode": 0o440}}) == {
        "deep/er": File(b"red", 0o400),
        "logo.png": File(b"\x00\xff", 0o440),
    }


def test_a_secret() -> None:
    assert files({"secret": {"secretName": "login", "defaultMode": 256}}) == {"password": File(b"hush", 0o400)}


def test_the_downward_api() -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}, "mode": 0o600},
    ]
    assert files({"downwardAPI": {"items": items}}) == {"labels": File(b'tier="a"', 0o644), "memory": File(b"64", 0o600)}


DEFAULT_TOKEN = {
    "projected": {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "app", "items": [{"key": "color", "path": "ca.crt"}]}},
            {"secret": {"name": "login"}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    }
}


def test_a_projection() -> None:
    assert files(DEFAULT_TOKEN) == {
        "token": File(b"a.b.c", 0o644),
        "ca.crt": File(b"red", 0o644),
        "password": File(b"hush", 0o644),
        "namespace": File(b"shop", 0o644),
    }
    assert list(needs(POD, DEFAULT_TOKEN)) == [Needed(APP, False), Needed(LOGIN, False)]
    assert list(claims(POD, DEFAULT_TOKEN)) == [CLAIM]


def test_only_the_pods_user_or_group_reads_its_token() -> None:
    assert files(DEFAULT_TOKEN, held(owner=1000))["token"] == File(b"a.b.c", 0o600, 1000)
    assert files(DEFAULT_TOKEN, held(is_grouped=True))["token"] == File(b"a.b.c", 0o600)


def test_an_optional_one_that_is_not_there() -> None:
    assert files({"configMap": {"name": "none", "optional": True}}) == {}
    assert files({"configMap": {"name": "none", "optional": True, "items": [{"key": "a", "path": "a"}]}}) == {}
    assert files({"secret": {"secretName": "login", "optional": True, "items": [{"key": "a", "path": "a"}]}}) == {}
    assert list(needs(POD, {"configMap": {"name": "none", "optional": True}})) == [Needed(ResourceKey("configmap", "shop", "none"), True)]


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "app", "items": [{"key": "none", "path": "a"}]}}, "has no key 'none'"),
        ({"configMap": {"name": "app", "items": [{"key": "color", "path": "../a"}]}}, "within the volume"),
        ({"configMap": {"name": "app", "defaultMode": 4096}}, "mode"),
        ({"projected": {"sources": [{"clusterTrustBundle": {"path": "x"}}]}}, "clusterTrustBundle is not supported"),
        ({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "spec"}}]}}, "no field"),
    ],
)
def test_what_is_wrong_is_named(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        files(volume)


def test_a_secret_that_is_no_base64_is_not_shown() -> None:
    using = Held({LOGIN: {"metadata": {}, "data": {"password": "hush!"}}}, {}, AROUND)
    with pytest.raises(ValueError, match="password") as caught:
        files({"secret": {"secretName": "login"}}, using)
    assert "hush" not in str(caught.value)
