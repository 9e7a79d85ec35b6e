"""Materials as the pods' workers see them: volumes, configurations, refusals, cleaning up; mounts only remembered."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.materials import HOST_IP, MaterialsWorld, pod_with, secret_data
from fakes.mounts import FakeMounts

from pinnace.core.base.contract.keys import ResourceKey
from pinnace.core.base.errors import StoreFull
from pinnace.core.base.pod import Pod
from pinnace.core.base.ports import ObjectChange
from pinnace.core.base.runtime import Credential, Dns, Mount, Namespaces, PortMapping, Propagation
from pinnace.core.pods.material import trees
from pinnace.core.pods.ports import SpecRefused, VolumesNotReady

DEFAULT_TOKEN: dict[str, Any] = {
    "name": "kube-api-access-x",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    },
}


class Fakes(MaterialsWorld):
    mounts: FakeMounts


@pytest.fixture
def world(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path, FakeMounts())


def volume(world: MaterialsWorld, kind: str, name: str, uid: str = "u-1") -> Path:
    return world.folder(uid) / "volumes" / f"kubernetes.io~{kind}" / name


async def test_a_default_pod_with_the_cloud(world: Fakes) -> None:
    world.cloud[ResourceKey("configmap", "shop", "kube-root-ca.crt")] = {
        "metadata": {"name": "kube-root-ca.crt"},
        "data": {"ca.crt": "PEM"},
    }
    await world.uplink.connect()
    await world.materials.mount(pod_with(DEFAULT_TOKEN))
    folder = volume(world, "projected", "kube-api-access-x")
    assert {name: (folder / name).read_text() for name in ("token", "ca.crt", "namespace")} == {
        "token": "token-u-1-1",
        "ca.crt": "PEM",
        "namespace": "shop",
    }
    assert "tmpfs" in world.mounts.mounted[folder]


async def test_a_default_pod_after_a_reboot_without_the_cloud(world: Fakes) -> None:
    world.store("configmap", "kube-root-ca.crt", data={"ca.crt": "PEM"})
    await world.uplink.connect()
    await world.materials.mount(pod_with(DEFAULT_TOKEN))
    world.uplink.disconnect()
    world.mounts.reboot()
    await world.clock.advance(10 * 86400)
    world.restart()
    await world.materials.mount(pod_with(DEFAULT_TOKEN))
    folder = volume(world, "projected", "kube-api-access-x")
    assert (folder / "token").read_text() == "token-u-1-1"
    assert folder in world.mounts.mounted


async def test_a_default_pod_that_never_met_the_cloud(world: Fakes) -> None:
    world.store("configmap", "kube-root-ca.crt", data={"ca.crt": "PEM"})
    world.store("serviceaccounttoken", "0123456789abcdef.u-2", token="token-u-2", hadAt=0, seconds=1)
    with pytest.raises(VolumesNotReady, match=r'"kube-api-access-x".*service account "shop/default".*cloud cannot be reached'):
        await world.materials.mount(pod_with(DEFAULT_TOKEN))
    assert not list(world.folder().rglob("token"))


async def test_a_pod_without_a_token_needs_no_cloud(world: Fakes) -> None:
    pod = pod_with(automountServiceAccountToken=False)
    await world.materials.mount(pod)
    assert (await world.config(pod)).name == "main"


async def test_a_config_map_never_seen(world: Fakes) -> None:
    pod = pod_with({"name": "cm", "configMap": {"name": "app"}}, {"name": "ok", "emptyDir": {}})
    with pytest.raises(VolumesNotReady, match=r'"cm": configmap "shop/app".*cloud cannot be reached'):
        await world.materials.mount(pod)
    assert volume(world, "empty-dir", "ok").is_dir()
    await world.uplink.connect()
    with pytest.raises(VolumesNotReady, match=r'configmap "shop/app" not found'):
        await world.materials.mount(pod)
    world.store("configmap", "app", data={"color": "red"})
    await world.materials.mount(pod)
    assert (volume(world, "configmap", "cm") / "color").read_text() == "red"


async def test_an_agent_with_a_narrow_umask_makes_volumes_for_everybody(world: Fakes) -> None:
    world.store("configmap", "app", data={"color": "red"})
    before = os.umask(0o077)
    try:
        await world.materials.mount(pod_with({"name": "cm", "configMap": {"name": "app"}}, {"name": "e", "emptyDir": {}}))
    finally:
        os.umask(before)
    folder = volume(world, "configmap", "cm")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, folder / "..data", folder / "color")] == [0o755, 0o755, 0o644]
    assert stat.S_IMODE(volume(world, "empty-dir", "e").stat().st_mode) == 0o777


async def test_volumes_are_brought_up_to_date_by_mounting_again(world: Fakes) -> None:
    pod = pod_with(
        {"name": "cm", "configMap": {"name": "app"}}, {"name": "down", "downwardAPI": _labels()}, metadata={"labels": {"a": "1"}}
    )
    world.store("configmap", "app", data={"color": "red"})
    await world.materials.mount(pod)
    first = (volume(world, "configmap", "cm") / "..data").readlink()
    await world.materials.mount(pod)
    assert (volume(world, "configmap", "cm") / "..data").readlink() == first
    world.store("configmap", "app", data={"color": "blue"})
    later = pod_with(
        {"name": "cm", "configMap": {"name": "app"}}, {"name": "down", "downwardAPI": _labels()}, metadata={"labels": {"a": "2"}}
    )
    await world.materials.mount(later)
    assert (volume(world, "configmap", "cm") / "color").read_text() == "blue"
    assert (volume(world, "downward-api", "down") / "labels").read_text() == 'a="2"'


def _labels() -> dict[str, Any]:
    return {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}


async def test_a_volume_that_nothing_mounts_is_not_set_up(world: Fakes) -> None:
    await world.materials.mount(pod_with({"name": "cm", "configMap": {"name": "none"}}, container={"volumeMounts": []}))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"csi": {"driver": "x"}}, "csi is not supported"),
        ({"iscsi": {}}, "iscsi is not supported"),
        ({"emptyDir": {"medium": "HugePages"}}, "medium HugePages is not supported"),
        ({"hostPath": {"path": "relative"}}, "absolute path"),
        ({"persistentVolumeClaim": {"claimName": "mine"}}, 'persistentvolumeclaim "shop/mine"'),
        ({"emptyDir": {"medium": "Memory", "sizeLimit": "much"}}, "much"),
        ({"configMap": "app"}, "cannot be read"),
    ],
)
async def test_a_volume_that_cannot_be_names_itself(world: Fakes, source: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumesNotReady, match=rf'MountVolume.SetUp failed for volume "bad": .*{message}'):
        await world.materials.mount(pod_with({"name": "bad", **source}, {"name": "good", "emptyDir": {}}))
    assert volume(world, "empty-dir", "good").is_dir()


@pytest.mark.parametrize(
    "pod",
    [
        pod_with(uid="../../x"),
        pod_with(uid=""),
        pod_with({"name": "../up", "emptyDir": {}}),
        pod_with(container={"name": "a/b"}),
        pod_with(metadata={"namespace": ".."}),
        pod_with({"name": "twice", "emptyDir": {}}, {"name": "twice", "emptyDir": {}}),
    ],
)
async def test_names_that_would_lead_elsewhere(world: Fakes, pod: Pod) -> None:
    with pytest.raises(VolumesNotReady):
        await world.materials.mount(pod)
    with pytest.raises(SpecRefused):
        world.materials.sandbox_config(pod, 0)
    assert not (world.root / "kubelet").exists()


async def test_empty_dirs(world: Fakes) -> None:
    limited = {"name": "limited", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    bounded = {"name": "bounded", "emptyDir": {"medium": "Memory"}}
    await world.materials.mount(pod_with({"name": "disk", "emptyDir": {}}, limited, bounded))
    assert stat.S_IMODE(volume(world, "empty-dir", "disk").stat().st_mode) == 0o777
    assert world.mounts.mounted[volume(world, "empty-dir", "limited")] == "tmpfs size=1048576 mode=0777"
    assert world.mounts.mounted[volume(world, "empty-dir", "bounded")] == f"tmpfs size={1 << 30} mode=0777"


async def test_an_empty_dirs_mode_is_its_users_once_it_is_used(world: Fakes) -> None:
    pod = pod_with({"name": "disk", "emptyDir": {}})
    await world.materials.mount(pod)
    folder = volume(world, "empty-dir", "disk")
    folder.chmod(0o700)
    (folder / "file").write_bytes(b"x" * 10_000)
    world.restart()
    await world.materials.mount(pod)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_the_group_of_volumes(world: Fakes) -> None:
    group = os.getgid()
    volumes = ({"name": "disk", "emptyDir": {}}, {"name": "cm", "configMap": {"name": "app", "defaultMode": 0o400}})
    world.store("configmap", "app", data={"color": "red"})
    pod = pod_with(*volumes, securityContext={"fsGroup": group})
    for _ in range(2):
        await world.materials.mount(pod)
    assert stat.S_IMODE(volume(world, "empty-dir", "disk").stat().st_mode) == 0o2777
    assert stat.S_IMODE((volume(world, "configmap", "cm") / "color").stat().st_mode) == 0o440
    assert (await world.config(pod)).security.supplemental_groups == (group,)


def bound(world: MaterialsWorld, **spec: Any) -> dict[str, Any]:
    claim = {"uid": "c-1", "name": "mine", "namespace": "shop"}
    world.store("persistentvolumeclaim", "mine", metadata=claim, spec={"volumeName": "pv-1"}, status={"phase": "Bound"})
    world.store("persistentvolume", "pv-1", "", metadata={"name": "pv-1"}, spec={"claimRef": {"uid": "c-1"}, **spec})
    for key in (ResourceKey("persistentvolumeclaim", "shop", "mine"), ResourceKey("persistentvolume", "", "pv-1")):
        world.cloud[key] = json.loads(world.objects.stored[key].body)
    return {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}


async def test_a_local_persistent_volume(world: Fakes, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    pod = pod_with(bound(world, local={"path": str(tmp_path / "disk")}, accessModes=["ReadOnlyMany"]))
    await world.materials.mount(pod)
    place = volume(world, "local-volume", "pv-1")
    assert world.mounts.mounted[place] == f"bind {tmp_path}/disk ro"
    assert Mount("/data", str(place), readonly=True) in (await world.config(pod)).mounts


async def test_a_local_volume_of_more_files_than_anybody_waits_for(world: Fakes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    pod = pod_with(bound(world, local={"path": str(tmp_path / "disk")}), securityContext={"fsGroup": os.getgid()})
    walks, is_done = [], threading.Event()

    def slow(root: Path, group: int, **how: bool) -> None:
        walks.append(root)
        is_done.wait()

    monkeypatch.setattr(trees, "give", slow)
    aside = world.materials._aside
    monkeypatch.setattr(aside, "_seconds", 0.05)
    try:
        for _ in range(2):
            with pytest.raises(VolumesNotReady, match="persistent volume pv-1: no answer within"):
                await world.materials.mount(pod)
    finally:
        is_done.set()
    monkeypatch.setattr(aside, "_seconds", 60.0)
    await world.materials.mount(pod)
    assert walks == [volume(world, "local-volume", "pv-1")], "the walk that nobody waited for counts"
    await world.materials.unmount("u-1")
    await world.materials.mount(pod)
    assert len(walks) == 2, "but once only"


async def test_a_local_persistent_volume_that_is_not_there(world: Fakes) -> None:
    with pytest.raises(VolumesNotReady, match="there is no /nowhere on this node"):
        await world.materials.mount(pod_with(bound(world, local={"path": "/nowhere"})))


async def test_a_block_device_that_is_none(world: Fakes, tmp_path: Path) -> None:
    with pytest.raises(VolumesNotReady, match="is no block device"):
        await world.materials.mount(pod_with(bound(world, local={"path": str(tmp_path)}, volumeMode="Block")))


async def test_a_host_path_persistent_volume(world: Fakes, tmp_path: Path) -> None:
    pod = pod_with(bound(world, hostPath={"path": str(tmp_path / "made"), "type": "DirectoryOrCreate"}))
    await world.materials.mount(pod)
    assert Mount("/data", str(tmp_path / "made")) in (await world.config(pod)).mounts


async def test_the_sandbox(world: Fakes) -> None:
    ports = [
        {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
        {"containerPort": 9},
    ]
    pod = pod_with(
        container={"ports": ports, "securityContext": {"privileged": True}}, metadata={"labels": {"a": "b"}, "annotations": {"c": "d"}}
    )
    found = world.materials.sandbox_config(pod, 3)
    assert (found.name, found.namespace, found.uid, found.attempt, found.hostname) == ("web", "shop", "u-1", 3, "web")
    assert found.log_directory == world.root / "logs/shop_web_u-1"
    assert found.ports == (PortMapping(80, 8080, "TCP", "127.0.0.1"), PortMapping(53, 53, "UDP"))
    assert found.labels["a"] == "b"
    assert found.labels["io.kubernetes.pod.uid"] == "u-1"
    assert found.annotations["c"] == "d"
    assert found.cgroup_parent == "/kubepods/besteffort/podu-1"
    assert found.privileged
    assert found.dns == Dns(("192.168.4.1",), ("lan",))
    assert found.namespaces == Namespaces()
    world.materials.sandbox_config(pod, 3)
    assert world.events.reasons == ["MissingClusterDNS"]


async def test_the_sandbox_on_the_hosts_network(world: Fakes) -> None:
    pod = pod_with(container={"ports": [{"containerPort": 80, "hostPort": 80}]}, hostNetwork=True)
    found = world.materials.sandbox_config(pod, 0)
    assert (found.ports, found.hostname, found.namespaces.host_network) == ((), "", True)
    assert world.events.told == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hostUsers": False}, "hostUsers"),
        ({"runtimeClassName": "gvisor"}, "runtimeClassName"),
        ({"dnsPolicy": "Sometimes"}, "dnsPolicy"),
        ({"subdomain": "s" * 60, "setHostnameAsFQDN": True}, "setHostnameAsFQDN"),
    ],
)
def test_a_sandbox_that_cannot_be(world: Fakes, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecRefused, match=message) as caught:
        world.materials.sandbox_config(pod_with(**spec), 0)
    assert caught.value.reason == "CreatePodSandboxError"


async def test_a_container(world: Fakes) -> None:
    own = {
        "command": ["sh", "-c", "echo $(GREETING)"],
        "args": ["$(POD_IP)", "$$(POD_IP)", "$(OTHER)"],
        "workingDir": "/srv",
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GREETING", "value": "hi $(POD_IP)"},
        ],
        "stdin": True,
        "tty": True,
        "lifecycle": {"preStop": {"exec": {"command": ["sync"]}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    pod = pod_with(container=own, terminationGracePeriodSeconds=7)
    await world.materials.mount(pod)
    found = await world.config(pod, attempt=2)
    assert (found.name, found.attempt, found.image, found.image_name, found.log_path) == ("main", 2, "sha256:1", "busybox:1", "main/2.log")
    assert found.command == ("sh", "-c", "echo hi 10.88.0.7")
    assert found.args == ("10.88.0.7", "$(POD_IP)", "$(OTHER)")
    assert (found.working_dir, found.stdin, found.stdin_once, found.tty) == ("/srv", True, False, True)
    assert dict(found.env) == {"POD_IP": "10.88.0.7", "GREETING": "hi 10.88.0.7"}
    assert found.labels == {
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "u-1",
        "io.kubernetes.container.name": "main",
    }
    assert dict(found.annotations) == {
        "io.kubernetes.container.hash": pod.containers[0].hash,
        "io.kubernetes.container.restartCount": "2",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "FallbackToLogsOnError",
        "io.kubernetes.container.preStopHandler": '{"exec":{"command":["sync"]}}',
        "io.kubernetes.pod.terminationGracePeriod": "7",
    }
    files = {each.container_path: Path(each.host_path) for each in found.mounts}
    assert files["/etc/hosts"].read_text().endswith("10.88.0.7\tweb\n")
    assert files["/etc/hostname"].read_text() == "web\n"
    assert files["/dev/termination-log"] == world.materials.termination_log(pod, pod.containers[0], 2)
    assert stat.S_IMODE(files["/dev/termination-log"].stat().st_mode) == 0o666


async def test_on_the_hosts_network_the_address_is_the_nodes(world: Fakes) -> None:
    own = {"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}
    found = await world.config(pod_with(container=own, hostNetwork=True), ips=())
    assert dict(found.env) == {"IP": HOST_IP}
    hosts = next(Path(each.host_path) for each in found.mounts if each.container_path == "/etc/hosts")
    assert hosts.read_text().startswith("# Kubernetes-managed hosts file (host network).\n")


async def test_the_files_every_container_has_are_written_in_place(world: Fakes) -> None:
    pod = pod_with()
    await world.config(pod)
    hosts = world.folder() / "etc-hosts"
    inode = hosts.stat().st_ino
    await world.config(pod, ips=("10.88.0.8", "fd00::8"))
    assert hosts.stat().st_ino == inode
    assert hosts.read_text().endswith("10.88.0.8\tweb\nfd00::8\tweb\n")


@pytest.mark.parametrize("name", ["etc-hosts", "etc-hostname"])
async def test_what_a_container_made_of_such_a_file_is_not_read(world: Fakes, name: str) -> None:
    pod = pod_with()
    await world.config(pod)
    path = world.folder() / name
    written = path.read_bytes()
    with path.open("r+b") as stream:
        stream.truncate(64 << 20)
    tracemalloc.start()
    try:
        await world.config(pod, attempt=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert path.read_bytes() == written


async def test_termination_logs_of_the_last_attempts_stay(world: Fakes) -> None:
    pod = pod_with()
    for attempt in range(6):
        await world.config(pod, attempt=attempt)
    assert sorted(each.name for each in (world.folder() / "containers/main").iterdir()) == ["3", "4", "5"]


async def test_a_volume_in_the_place_of_such_a_file(world: Fakes) -> None:
    mounts = [{"name": "own", "mountPath": "/etc/hosts"}, {"name": "own", "mountPath": "etc/hostname/"}]
    pod = pod_with({"name": "own", "emptyDir": {}}, container={"volumeMounts": mounts})
    await world.materials.mount(pod)
    assert [each.container_path for each in (await world.config(pod)).mounts] == ["/etc/hosts", "/etc/hostname/", "/dev/termination-log"]


async def test_mounts(world: Fakes, tmp_path: Path) -> None:
    mounts = [
        {"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"},
        {"name": "host", "mountPath": "/both", "mountPropagation": "Bidirectional", "readOnly": True},
        {"name": "cm", "mountPath": "/cm"},
    ]
    own = {"volumeMounts": mounts, "securityContext": {"privileged": True}}
    world.store("configmap", "app", data={"color": "red"})
    pod = pod_with({"name": "host", "hostPath": {"path": str(tmp_path)}}, {"name": "cm", "configMap": {"name": "app"}}, container=own)
    await world.materials.mount(pod)
    assert (await world.config(pod)).mounts[:3] == (
        Mount("/host", str(tmp_path), propagation=Propagation.HOST_TO_CONTAINER),
        Mount("/both", str(tmp_path), readonly=True, propagation=Propagation.BIDIRECTIONAL),
        Mount("/cm", str(volume(world, "configmap", "cm")), readonly=True),
    )


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"name": "none", "mountPath": "/x"}, "no volume 'none'"),
        ({"name": "disk", "mountPath": ""}, "mountPath"),
        ({"name": "disk", "mountPath": "/x", "mountPropagation": "Both"}, "mountPropagation"),
        ({"name": "disk", "mountPath": "/x", "mountPropagation": "Bidirectional"}, "privileged"),
        ({"name": "disk", "mountPath": "/x", "subPath": "../x"}, "subPath"),
        ({"name": "disk", "mountPath": "/x", "readOnly": True, "recursiveReadOnly": "Enabled"}, "recursiveReadOnly"),
        ({"name": "disk", "mountPath": "/x", "subPathExpr": "$(NONE)"}, "NONE"),
    ],
)
async def test_mounts_that_cannot_be(world: Fakes, wish: dict[str, Any], message: str) -> None:
    pod = pod_with({"name": "disk", "emptyDir": {}}, container={"volumeMounts": [wish]})
    with pytest.raises(SpecRefused, match=message) as caught:
        await world.config(pod)
    assert caught.value.reason == "CreateContainerConfigError"


async def test_sub_paths(world: Fakes) -> None:
    mounts = [{"name": "disk", "mountPath": "/a", "subPath": "a/b"}, {"name": "disk", "mountPath": "/b", "subPathExpr": "logs/$(NAME)"}]
    own = {"volumeMounts": mounts, "env": [{"name": "NAME", "value": "web"}]}
    pod = pod_with({"name": "disk", "emptyDir": {}}, container=own)
    await world.materials.mount(pod)
    found = (await world.config(pod)).mounts
    assert [(each.container_path, each.host_path) for each in found[:2]] == [
        ("/a", str(world.folder() / "volume-subpaths/disk/main/0")),
        ("/b", str(world.folder() / "volume-subpaths/disk/main/1")),
    ]
    disk = volume(world, "empty-dir", "disk")
    assert (disk / "a/b").is_dir()
    assert (disk / "logs/web").is_dir()


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "login", "key": "none"}}}]},
            "couldn't find key none in secret shop/login",
        ),
        ({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "a"}}}]}, 'configmap "shop/none" not found'),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "shop/none" not found'),
        ({"securityContext": {"runAsNonRoot": True}}, "runAsNonRoot"),
        ({"resources": {"limits": {"cpu": "lots"}}}, "lots"),
        ({"env": {"X": "1"}}, "cannot be read"),
        ({"volumeDevices": [{"name": "none", "devicePath": "/dev/x"}]}, "no block device"),
    ],
)
async def test_a_container_that_cannot_be(world: Fakes, own: dict[str, Any], message: str) -> None:
    world.store("secret", "login", data=secret_data(password="hush"))
    await world.uplink.connect()
    with pytest.raises(SpecRefused, match=message) as caught:
        await world.config(pod_with(container=own))
    assert caught.value.reason == "CreateContainerConfigError"


async def test_an_environment_from_the_store(world: Fakes) -> None:
    world.store("secret", "login", data=secret_data(PASSWORD="hush"))
    world.store("configmap", "app", data={"COLOR": "red", "a=b": "x"})
    own = {
        "envFrom": [{"configMapRef": {"name": "app"}}, {"secretRef": {"name": "login"}}, {"secretRef": {"name": "none", "optional": True}}]
    }
    found = await world.config(pod_with(container=own))
    assert dict(found.env) == {"COLOR": "red", "PASSWORD": "hush"}
    (told,) = [each for each in world.events.told if each.reason == "InvalidEnvironmentVariableNames"]
    assert "['a=b']" in told.message


async def test_after_a_restart_of_the_agent_a_container_needs_no_mount_first(world: Fakes) -> None:
    pod = pod_with({"name": "disk", "emptyDir": {}})
    await world.materials.mount(pod)
    world.restart()
    assert (await world.config(pod)).mounts[0].host_path == str(volume(world, "empty-dir", "disk"))


async def test_pull_secrets(world: Fakes) -> None:
    auths = {"auths": {"r.example": {"username": "u", "password": "hush"}, "docker.io": {"username": "v", "password": "hush"}}}
    world.store("secret", "pull", data=secret_data(**{".dockerconfigjson": json.dumps(auths)}))
    world.store("secret", "bad", data=secret_data(**{".dockercfg": "hush"}))
    pod = pod_with(imagePullSecrets=[{"name": "pull"}, {"name": "bad"}, {"name": "none"}])
    found = await world.materials.pull_credentials(pod)
    assert found == [Credential("r.example", "u", "hush"), Credential("docker.io", "v", "hush")]
    assert [each.reason for each in world.events.told] == ["FailedToRetrieveImagePullSecret"] * 2
    assert "hush" not in str(world.events.told)


def test_what_a_pod_uses(world: Fakes) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "login", "key": "a"}}}]
    own = {"env": env, "envFrom": [{"configMapRef": {"name": "from"}}]}
    pod = pod_with(
        DEFAULT_TOKEN,
        {"name": "cm", "configMap": {"name": "app"}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}},
        {"name": "disk", "emptyDir": {}},
        container=own,
        imagePullSecrets=[{"name": "pull"}],
    )
    assert {(each.kind, each.name) for each in world.materials.uses(pod)} == {
        ("configmap", "kube-root-ca.crt"),
        ("configmap", "app"),
        ("configmap", "from"),
        ("secret", "login"),
        ("secret", "pull"),
        ("persistentvolumeclaim", "mine"),
    }
    assert world.materials.uses(pod_with({"name": "x", "configMap": "app"})) == set()


async def test_taking_it_all_away(world: Fakes, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/kept").write_text("x")
    world.store("configmap", "kube-root-ca.crt", data={"ca.crt": "PEM"})
    await world.uplink.connect()
    pod = pod_with(
        DEFAULT_TOKEN, bound(world, local={"path": str(tmp_path / "disk")}), {"name": "host", "hostPath": {"path": str(tmp_path / "disk")}}
    )
    await world.materials.mount(pod)
    await world.config(pod)
    assert set(await world.materials.leftovers()) == {"u-1"}
    await world.materials.unmount("u-1")
    await world.materials.unmount("u-1")
    assert set(await world.materials.leftovers()) == set()
    assert not world.mounts.mounted
    assert not world.folder().exists()
    assert (tmp_path / "disk/kept").exists()
    assert not [key for key in world.objects.stored if key.kind == "serviceaccounttoken"]


async def test_tokens_are_left_over_too(world: Fakes) -> None:
    world.store("serviceaccounttoken", "0123456789abcdef.u-9", token="x", hadAt=0, seconds=1)
    assert set(await world.materials.leftovers()) == {"u-9"}
    await world.materials.unmount("u-9")
    assert set(await world.materials.leftovers()) == set()


async def test_what_cannot_be_unmounted_is_not_removed(world: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = pod_with({"name": "memory", "emptyDir": {"medium": "Memory"}})
    await world.materials.mount(pod)
    file = volume(world, "empty-dir", "memory") / "file"
    file.write_text("x")
    monkeypatch.setattr(world.mounts, "unmount", lambda target: None)
    with pytest.raises(VolumesNotReady, match="still mounted"):
        await world.materials.unmount("u-1")
    assert file.exists()
    monkeypatch.undo()
    await world.materials.unmount("u-1")
    assert not world.folder().exists()


async def test_a_full_store_keeps_no_volume_on_the_disk(world: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.materials.mount(pod_with({"name": "scratch", "emptyDir": {}}))
    world.store("serviceaccounttoken", "0123456789abcdef.u-1", token="x", hadAt=0, seconds=1)

    async def full(changes: Sequence[ObjectChange]) -> None:
        raise StoreFull("no space left on the disk")

    monkeypatch.setattr(world.objects, "apply", full)
    with pytest.raises(VolumesNotReady, match="no space left"):
        await world.materials.unmount("u-1")
    assert not world.folder().exists()
    monkeypatch.undo()
    assert set(await world.materials.leftovers()) == {"u-1"}, "the token is still to go"
    await world.materials.unmount("u-1")
    assert set(await world.materials.leftovers()) == set()


async def test_a_name_that_is_no_uid_removes_nothing(world: Fakes) -> None:
    await world.materials.mount(pod_with())
    for uid in ("", ".", "..", "../pods", "u-1/volumes"):
        await world.materials.unmount(uid)
    assert world.folder().is_dir()


async def test_secrets_are_in_no_log_and_no_event(world: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.uplink.connect()
    world.store("configmap", "kube-root-ca.crt", data={"ca.crt": "PEM"})
    world.cloud[ResourceKey("secret", "shop", "login")] = {"metadata": {"name": "login"}, "data": secret_data(PASSWORD="hush-hush")}
    world.cloud[ResourceKey("secret", "shop", "broken")] = {"metadata": {"name": "broken"}, "data": {"PASSWORD": "hush-hush!"}}
    own = {
        "envFrom": [{"secretRef": {"name": "login"}}],
        "volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "kube-api-access-x", "mountPath": "/t"}],
    }
    pod = pod_with(DEFAULT_TOKEN, {"name": "s", "secret": {"secretName": "login"}}, container=own)
    await world.materials.mount(pod)
    await world.config(pod)
    with pytest.raises(SpecRefused) as refused:
        await world.config(pod_with(container={"envFrom": [{"secretRef": {"name": "broken"}}]}))
    with pytest.raises(VolumesNotReady) as not_ready:
        await world.materials.mount(pod_with({"name": "s", "secret": {"secretName": "broken"}}))
    text = caplog.text + str(world.events.told) + str(refused.value) + str(not_ready.value)
    for each in ("hush", secret_data(x="hush-hush")["x"][:8], "token-u-1"):
        assert each not in text


async def test_volumes_that_are_up_to_date_cost_no_write(world: Fakes) -> None:
    """It is done once a minute for each pod; a change of an inode, be it its time alone, is a block of flash."""
    world.store("configmap", "settings", data={"a": "1"})
    pod = pod_with({"name": "files", "configMap": {"name": "settings"}}, {"name": "scratch", "emptyDir": {}})
    await world.materials.mount(pod)

    def changes() -> dict[str, int]:
        folder = world.folder("u-1")
        return {str(each): each.lstat().st_ctime_ns for each in (folder, *folder.rglob("*"))}

    before = changes()
    await world.materials.mount(pod)
    assert changes() == before
