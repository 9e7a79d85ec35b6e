"""Everything by which a pod may name a ConfigMap or a Secret."""

from __future__ import annotations

from pinnace.cloud.controllers.references import Reference, references_of
from pinnace.cloud.ports import Object


def test_every_way_to_name_one_is_found() -> None:
    spec: Object = {
        "volumes": [
            {"name": "a", "configMap": {"name": "volume-map"}},
            {"name": "b", "secret": {"secretName": "volume-secret"}},
            {
                "name": "c",
                "projected": {"sources": [{"configMap": {"name": "projected-map"}}, {"secret": {"name": "projected-secret"}}, {}]},
            },
            {"name": "d", "csi": {"nodePublishSecretRef": {"name": "csi-secret"}}},
            {"name": "e", "rbd": {"secretRef": {"name": "rbd-secret"}}},
            {"name": "f", "azureFile": {"secretName": "azure-secret"}},
            {"name": "g", "emptyDir": {}},
        ],
        "initContainers": [{"envFrom": [{"configMapRef": {"name": "init-map"}}]}],
        "containers": [
            {
                "envFrom": [{"secretRef": {"name": "env-secret"}}],
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key-map", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key-secret", "key": "k"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "D", "value": "x"},
                ],
            },
            {},
        ],
        "ephemeralContainers": None,
        "imagePullSecrets": [{"name": "pull-secret"}, {}],
    }
    found = references_of({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
    assert {each.name for each in found if each.kind == "ConfigMap"} == {"volume-map", "projected-map", "init-map", "key-map"}
    assert {each.name for each in found if each.kind == "Secret"} == {
        "volume-secret", "projected-secret", "csi-secret", "rbd-secret", "azure-secret", "env-secret", "key-secret", "pull-secret",
    }  # fmt: skip
    assert {each.namespace for each in found} == {"ns"}


def test_a_pod_that_names_nothing() -> None:
    assert references_of({"metadata": {"name": "p", "namespace": "ns"}}) == frozenset()
    assert references_of({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"volumes": [{"configMap": {"name": 5}}]}}) == frozenset()
    assert Reference("ConfigMap", "ns", "a") < Reference("Secret", "ns", "a")
