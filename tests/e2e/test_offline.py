"""What a node without a network does about what it lacks: an old token is served, a missing one waited for and never another pod's taken,
an unseen config map is named, and pods run without the Node's own row. Static pods need nobody."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson
import pytest
from rig import nodepods as pods
from rig.kube import KubeClient
from rig.podplaces import BUSYBOX, PodPlaces
from rig.powercut import local_pods, power_cut
from rig.system import NODE, System, eventually

pytestmark = [pytest.mark.containers, pytest.mark.root, pytest.mark.mosquitto, pytest.mark.timeout(240)]

STATIC = f"""
apiVersion: v1
kind: Pod
metadata: {{name: from-a-file}}
spec:
  hostNetwork: true
  containers: [{{name: main, image: "{BUSYBOX}", imagePullPolicy: IfNotPresent, command: [sh, -c, "while :; do sleep 0.1; done"]}}]
"""


def with_token(name: str) -> dict[str, Any]:
    projected = {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}
    mounted = pods.container(volumeMounts=[{"name": "t", "mountPath": "/t"}])
    return pods.pod(name, containers=[mounted], volumes=[{"name": "t", "projected": projected}])


def token_of(places: PodPlaces, uid: str) -> str:
    """What lies in the pod's volume."""
    return (places.folder / "kubelet/pods" / uid / "volumes/kubernetes.io~projected/t/token").read_text()


class Store:
    """The stopped edge's database."""

    def __init__(self, system: System) -> None:
        self._file = system.folder / "edge" / "edgecore.db"

    def delete(self, kind: str, name: str) -> None:
        with sqlite3.connect(self._file) as database:
            assert database.execute("DELETE FROM objects WHERE kind = ? AND name LIKE ?", (kind, name)).rowcount == 1

    def age_token(self, uid: str) -> None:
        """Make a token a day old, which is older than it may get."""
        with sqlite3.connect(self._file) as database:
            where = "kind = 'serviceaccounttoken' AND name LIKE ?"
            ((body,),) = database.execute(f"SELECT body FROM objects WHERE {where}", (f"%.{uid}",)).fetchall()
            kept = orjson.loads(body)
            kept["hadAt"] -= 86_400
            database.execute(f"UPDATE objects SET body = ? WHERE {where}", (orjson.dumps(kept), f"%.{uid}"))


async def test_what_is_missing_offline_is_named_and_what_is_old_is_served(node: tuple[System, KubeClient]) -> None:
    system, kube = node
    places = system.pods
    assert places is not None
    await pods.provide(kube)
    mounted = [pods.container(volumeMounts=[{"name": "v", "mountPath": "/v"}])]
    configured = pods.pod("config-never-seen", containers=mounted, volumes=[{"name": "v", "configMap": {"name": "colours"}}])
    names = ("token-expired", "token-missing", "token-fresh", "config-never-seen", "plain")
    await pods.create(kube, with_token(names[0]), with_token(names[1]), with_token(names[2]), configured, pods.pod("plain"))
    before = await pods.until_running(kube, system, *names)
    uids = {name: before[name]["metadata"]["uid"] for name in names}
    tokens = {name: token_of(places, uids[name]) for name in names[:3]}
    assert len(set(tokens.values())) == 3

    await system.cloud.kill()
    await power_cut(system)
    store = Store(system)
    store.age_token(uids["token-expired"])
    store.delete("serviceaccounttoken", f"%.{uids['token-missing']}")
    store.delete("configmap", "colours")
    store.delete("node", NODE)
    (places.static_dir / "pod.yaml").write_text(STATIC)
    await system.edge.start()

    again = ("token-expired", "token-fresh", "plain")

    def are_back(found: dict[str, Any]) -> bool:
        static = found.get(f"from-a-file-{NODE}")
        restarted = all(name in found and pods.is_running(found[name]) and pods.restarts(found[name]) == {"main": 1} for name in again)
        return restarted and static is not None and pods.is_running(static)

    here = await eventually(lambda: local_pods(system), are_back, system)
    for name in ("token-expired", "token-fresh"):
        assert token_of(places, uids[name]) == tokens[name]
    for name in ("token-missing", "config-never-seen"):
        assert not pods.is_running(here[name]), name
        assert not (places.folder / "kubelet/pods" / uids[name] / "volumes/kubernetes.io~projected/t/token").exists()
        assert all("running" not in each["state"] for each in here[name]["status"]["containerStatuses"]), name

    await system.cloud.start()
    await pods.until_running(kube, system, *names)
    wanted = {name: pods.container_ids(here[name]) for name in again}

    def is_reported(answer: Any) -> bool:
        found = {each["metadata"]["name"]: each for each in answer["items"]}
        return {name: pods.container_ids(found[name]) for name in again} == wanted and all(pods.is_running(found[name]) for name in names)

    await eventually(lambda: kube.get(pods.PODS), is_reported, system)
    assert {name: pods.container_ids((await local_pods(system))[name]) for name in again} == wanted
    assert token_of(places, uids["token-missing"]) not in tokens.values()
    for name, word in (("token-missing", "token"), ("config-never-seen", "colours")):

        def is_told(answer: Any, name: str = name, word: str = word) -> bool:
            told = [each for each in answer["items"] if each["involvedObject"].get("name") == name and each["reason"] == "FailedMount"]
            return any(word in each["message"] for each in told)

        await eventually(lambda: kube.get("/api/v1/namespaces/default/events"), is_told, system)
    mirror = await eventually(lambda: kube.ask("GET", f"{pods.PODS}/from-a-file-{NODE}"), lambda answer: answer[0] == 200, system)
    assert "kubernetes.io/config.mirror" in mirror[1]["metadata"]["annotations"]
