"""A container's environment, from every kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.core.base.pod import Pod
from pinnace.core.pods.rules.env import (
    Environment,
    NotFound,
    Surroundings,
    environment,
    expand,
    expand_strictly,
    field_value,
    resource_value,
)

AROUND = Surroundings(("10.1.0.7", "fd00::7"), ("192.168.4.10",), "pi", {"cpu": "4", "memory": "1Gi", "ephemeral-storage": "10Gi"})


class Held:
    """Config maps and secrets in memory."""

    def __init__(self, **objects: dict[str, bytes]) -> None:
        self.objects = objects

    def values(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        return self.objects.get(f"{kind}_{name}")


HELD = Held(
    configmap_app={"color": b"red", "1st": b"one", "bad=name": b"x"}, secret_login={"password": b"hush", "raw": b"\xff", "zero": b"a\0"}
)


def pod(env: list[Any] | None = None, env_from: list[Any] | None = None, resources: Any = None) -> Pod:
    container = {"name": "main", "env": env, "envFrom": env_from, "resources": resources}
    metadata = {
        "name": "web",
        "namespace": "shop",
        "uid": "u-1",
        "labels": {"app.kubernetes.io/name": "web", "tier": "a"},
        "annotations": {"note": 'say "hi"\n'},
    }
    return Pod({"metadata": metadata, "spec": {"containers": [container], "serviceAccountName": "clerk"}})


def variables(env: list[Any] | None = None, env_from: list[Any] | None = None, services: Any = None) -> dict[str, str]:
    return made(env, env_from, services).variables


def made(env: list[Any] | None = None, env_from: list[Any] | None = None, services: Any = None) -> Environment:
    given_pod = pod(env, env_from)
    return environment(given_pod, given_pod.containers[0], HELD, AROUND, services)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B) $(A)$(A)", "$(B) 11"),
        ("$A ${A} $( A)", "$A ${A} $( A)"),
        ("$(A", "$(A"),
        ("cost: 5$", "cost: 5$"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@given(st.text())
def test_expansion_of_nothing_known_changes_only_dollars(text: str) -> None:
    assert expand(text, {}) == text.replace("$$", "$")


def test_strict_expansion() -> None:
    assert expand_strictly("logs/$(A)", {"A": "1"}) == "logs/1"
    with pytest.raises(ValueError, match="'B'"):
        expand_strictly("logs/$(B)", {"A": "1"})


def test_order_and_duplicates() -> None:
    env = [
        {"name": "color", "value": "blue"},
        {"name": "late", "value": "$(color) $(later)"},
        {"name": "later", "value": "x"},
        {"name": "color", "value": "$(color)ish"},
        {"name": "empty"},
    ]
    from_map = [{"configMapRef": {"name": "app"}}, {"prefix": "P_", "configMapRef": {"name": "app"}}]
    assert variables(env, from_map) == {
        "1st": "one",
        "color": "blueish",
        "P_1st": "one",
        "P_color": "red",
        "late": "blue $(later)",
        "later": "x",
        "empty": "",
    }


def test_names_no_variable_can_have_are_skipped_and_told() -> None:
    assert made(env_from=[{"configMapRef": {"name": "app"}}]).skipped == {"configMap shop/app": ["bad=name"]}


def test_service_variables_come_first_and_only_when_known() -> None:
    host = {"name": "KUBERNETES_SERVICE_HOST", "value": "mine"}
    assert "KUBERNETES_SERVICE_HOST" not in variables()
    assert variables(services={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert variables([host], services={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == {"KUBERNETES_SERVICE_HOST": "mine"}


def key_ref(kind: str, name: str, key: str, **more: Any) -> list[Any]:
    return [{"name": "X", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}]


def test_keys() -> None:
    assert variables(key_ref("configMap", "app", "color")) == {"X": "red"}
    assert variables(key_ref("secret", "login", "password")) == {"X": "hush"}
    assert variables(key_ref("secret", "login", "none", optional=True)) == {}
    assert variables(key_ref("configMap", "none", "none", optional=True)) == {}
    assert variables(env_from=[{"secretRef": {"name": "none", "optional": True}}]) == {}


@pytest.mark.parametrize(
    ("env", "env_from", "message"),
    [
        (key_ref("configMap", "none", "color"), None, "configmap 'none' not found"),
        (key_ref("secret", "login", "none"), None, "couldn't find key none in secret shop/login"),
        (None, [{"secretRef": {"name": "none"}}], "secret 'none' not found"),
    ],
)
def test_what_is_missing_is_named(env: Any, env_from: Any, message: str) -> None:
    with pytest.raises(NotFound, match=message):
        variables(env, env_from)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (key_ref("secret", "login", "raw"), "no UTF-8"),
        (key_ref("secret", "login", "zero"), "zero byte"),
        ([{"name": "a=b", "value": "x"}], "no name"),
        ([{"name": "X", "valueFrom": {"fileKeyRef": {}}}], "fileKeyRef is not supported"),
        ([{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.hostname"}}}], "no field"),
    ],
)
def test_what_cannot_be_is_refused_without_the_value(env: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        variables(env)
    assert "\\xff" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app.kubernetes.io/name']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", 'say "hi"\n'),
        ("metadata.labels", 'app.kubernetes.io/name="web"\ntier="a"'),
        ("metadata.annotations", 'note="say \\"hi\\"\\n"'),
        ("spec.nodeName", "pi"),
        ("spec.serviceAccountName", "clerk"),
        ("status.podIP", "10.1.0.7"),
        ("status.podIPs", "10.1.0.7,fd00::7"),
        ("status.hostIP", "192.168.4.10"),
        ("status.hostIPs", "192.168.4.10"),
    ],
)
def test_fields(path: str, expected: str) -> None:
    assert field_value(pod(), path, AROUND) == expected


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "0", "1"),
        ("limits.memory", None, "67108864"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "1M", "68"),
        ("requests.memory", None, "67108864"),
        ("limits.ephemeral-storage", "1Gi", "10"),
        ("requests.ephemeral-storage", None, "0"),
        ("limits.hugepages-2Mi", "1Mi", "0"),
    ],
)
def test_resources(resource: str, divisor: str | None, expected: str) -> None:
    given_pod = pod(resources={"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}})
    reference = {"resource": resource, "divisor": divisor}
    assert resource_value(given_pod, given_pod.containers[0], reference, AROUND) == expected


def test_a_resource_of_another_container() -> None:
    given_pod = pod()
    assert resource_value(given_pod, given_pod.containers[0], {"containerName": "main", "resource": "limits.cpu"}, AROUND) == "4"
    with pytest.raises(ValueError, match="no container"):
        resource_value(given_pod, given_pod.containers[0], {"containerName": "none", "resource": "limits.cpu"}, AROUND)
    with pytest.raises(ValueError, match=r"limits\.gpu"):
        resource_value(given_pod, given_pod.containers[0], {"resource": "limits.gpu"}, AROUND)
