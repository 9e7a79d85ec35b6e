"""What a file's pod becomes."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.pod import Pod, RestartPolicy
from pinnace.core.pods.rules.statics import static_pod

NODE = NodeName("Pi")


def body(**more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "registry:5000/app"}], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


def made(content: Any) -> Pod:
    return static_pod(content, source="/etc/web.yaml", node=NODE, seen="2026-01-01T00:00:00Z")


def test_identity() -> None:
    pod = made(body())
    assert (pod.name, pod.namespace, len(pod.uid)) == ("web-pi", "default", 32)
    assert pod.is_static
    assert pod.annotations["kubernetes.io/config.hash"] == pod.uid
    assert made(body()).uid == pod.uid
    assert made(body(hostNetwork=True)).uid != pod.uid
    assert static_pod(body(), source="/etc/other.yaml", node=NODE, seen="").uid != pod.uid
    own = body()
    own["metadata"]["uid"] = "mine"
    assert made(own).uid == "mine"


def test_the_file_s_content_is_not_changed() -> None:
    content = body()
    made(content)
    assert content == body()


def test_defaults_of_the_api() -> None:
    container = {
        "name": "app",
        "image": "app:1",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
        "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3},
    }
    pod = made(body(containers=[container], hostNetwork=True, volumes=[{"name": "s", "secret": {"secretName": "x"}}]))
    assert pod.spec["restartPolicy"] == "Always"
    assert pod.spec["terminationGracePeriodSeconds"] == 30
    assert pod.spec["dnsPolicy"] == "ClusterFirst"
    assert pod.spec["nodeName"] == "Pi"
    assert pod.spec["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert pod.spec["volumes"][0]["secret"]["defaultMode"] == 420
    app = pod.containers[0].spec
    assert app["imagePullPolicy"] == "IfNotPresent"
    assert app["ports"] == [{"containerPort": 80, "protocol": "TCP", "hostPort": 80}]
    assert app["resources"]["requests"] == {"cpu": "100m", "memory": "1Gi"}
    assert app["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "periodSeconds": 3,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_a_field_that_says_null_is_as_one_that_is_not_there() -> None:
    pod = made(body(restartPolicy=None, terminationGracePeriodSeconds=None, activeDeadlineSeconds=None, priority=None))
    assert (pod.restart_policy, pod.grace_seconds) == (RestartPolicy.ALWAYS, 30)


@pytest.mark.parametrize(
    ("image", "policy"),
    [("app", "Always"), ("r:5000/app", "Always"), ("app:latest", "Always"), ("app:1", "IfNotPresent"), ("app@sha256:0", "IfNotPresent")],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert made(body(containers=[{"name": "a", "image": image}])).containers[0].spec["imagePullPolicy"] == policy


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "kind: Pod"),
        ([], "kind: Pod"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "kind: Pod"),
        ({**body(), "metadata": {"name": "Web_1"}}, "metadata.name"),
        ({**body(), "metadata": []}, "metadata: expected a mapping"),
        ({**body(), "spec": {}}, "at least one container"),
        (body(containers=[{"name": "a"}]), "a needs an image"),
        (body(containers=["a"]), "a name of its own"),
        (body(initContainers=[{"name": "app", "image": "x"}]), "a name of its own"),
        ({**body(), "metadata": {"name": "web", "namespace": 12}}, "metadata.namespace"),
        ({**body(), "metadata": {"name": "web", "uid": "../x"}}, "metadata.uid"),
        (body(terminationGracePeriodSeconds="soon"), "terminationGracePeriodSeconds: expected a whole number"),
        (body(terminationGracePeriodSeconds=-1), "terminationGracePeriodSeconds"),
        (body(activeDeadlineSeconds=1.5), "activeDeadlineSeconds"),
        (body(priority="high"), "priority"),
        (body(restartPolicy="always"), "restartPolicy: expected Always, OnFailure, Never"),
        (body(containers=[{"name": "a", "image": "x", "lifecycle": {"preStop": "bye"}}]), "a: lifecycle.preStop"),
        (body(containers=[{"name": "a", "image": "x", "lifecycle": {"preStop": {"sleep": 5}}}]), "a: lifecycle.preStop"),
        (body(containers=[{"name": "a", "image": "x", "lifecycle": []}, {"name": "b"}]), "b needs an image"),
        (body(containers=[{"name": "a", "image": "x", "lifecycle": "bye"}]), "lifecycle: expected a mapping"),
    ],
)
def test_what_is_wrong_is_said(content: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(content)
