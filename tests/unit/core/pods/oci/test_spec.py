"""config.json, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinnace.core.base.runtime import ContainerConfig, Mount, Propagation, Resources, RuntimeFailed, SandboxConfig, Security
from pinnace.core.pods.images.records import ImageConfig
from pinnace.core.pods.oci import spec
from pinnace.core.pods.oci.host import CAPABILITIES, DeviceNode, Host
from pinnace.core.pods.oci.users import User

ALL = frozenset(CAPABILITIES)
V1 = Host(is_cgroup_v2=False, capabilities=ALL)
V2 = Host(is_cgroup_v2=True, capabilities=ALL)
USER = User(1000, 2000, (2000, 3000), "/home/app")
PLACES = spec.Places("/mnt/root", "/kubepods/podx/c", {"network": "/ns/net", "pid": ""}, "/shm", "/resolv")
SANDBOX = SandboxConfig("pod", "default", "uid", 0, "host", Path("/logs"))


def container(**changes: Any) -> ContainerConfig:
    return ContainerConfig(**{"name": "c", "attempt": 0, "image": "i", "image_name": "n", "log_path": "l", "command": ("run",), **changes})


def made(config: ContainerConfig | None = None, *, host: Host = V1, image: ImageConfig | None = None, **more: Any) -> dict[str, Any]:
    return spec.configuration(
        config=config or container(), sandbox=SANDBOX, image=image or ImageConfig(), user=USER, host=host, places=PLACES, **more
    )


@pytest.mark.parametrize(
    ("command", "args", "found"),
    [
        ((), (), ("entry", "cmd")),
        ((), ("a",), ("entry", "a")),
        (("own",), (), ("own",)),
        (("own",), ("a", "b"), ("own", "a", "b")),
    ],
)
def test_arguments(command: tuple[str, ...], args: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert spec.arguments(container(command=command, args=args), ImageConfig(entrypoint=("entry",), cmd=("cmd",))) == found


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(RuntimeFailed, match="set command") as caught:
        spec.arguments(container(command=()), ImageConfig())
    assert caught.value.reason == "CreateContainerError"


def test_environment_later_wins_and_defaults_give_way() -> None:
    image = ImageConfig(env=(("PATH", "/bin"), ("A", "image"), ("B", "image")))
    assert spec.environment(container(env=(("A", "pod"), ("A", "again"))), image, "host", "/root") == [
        "PATH=/bin",
        "HOSTNAME=host",
        "A=again",
        "B=image",
        "HOME=/root",
    ]
    assert spec.environment(container(env=(("HOME", "/mine"), ("TERM", "vt100")), tty=True), ImageConfig(), "h", "")[-1] == "HOME=/mine"
    assert "TERM=vt100" in spec.environment(container(env=(("TERM", "vt100"),), tty=True), ImageConfig(), "h", "")


@pytest.mark.parametrize(
    ("security", "found"),
    [
        (Security(), spec.DEFAULT_CAPABILITIES),
        (Security(add_capabilities=("NET_ADMIN",)), spec.DEFAULT_CAPABILITIES | {"NET_ADMIN"}),
        (Security(add_capabilities=("CAP_NET_ADMIN", "sys_time")), spec.DEFAULT_CAPABILITIES | {"NET_ADMIN", "SYS_TIME"}),
        (Security(drop_capabilities=("CHOWN",)), spec.DEFAULT_CAPABILITIES - {"CHOWN"}),
        (Security(drop_capabilities=("ALL",)), frozenset()),
        (Security(drop_capabilities=("ALL",), add_capabilities=("KILL",)), {"KILL"}),
        (Security(add_capabilities=("ALL",)), ALL),
        (Security(add_capabilities=("ALL",), drop_capabilities=("SYS_ADMIN",)), ALL - {"SYS_ADMIN"}),
        (Security(add_capabilities=("NO_SUCH",)), spec.DEFAULT_CAPABILITIES),
        (Security(privileged=True, drop_capabilities=("ALL",)), ALL),
    ],
)
def test_capabilities(security: Security, found: frozenset[str]) -> None:
    assert spec.capabilities(security, ALL) == found


def test_capabilities_are_never_more_than_the_agents() -> None:
    assert spec.capabilities(Security(privileged=True), frozenset({"KILL"})) == {"KILL"}
    assert spec.capabilities(Security(add_capabilities=("SYS_RESOURCE",)), ALL - {"SYS_RESOURCE"}) == spec.DEFAULT_CAPABILITIES


def test_user_groups_directory_and_scores() -> None:
    process = made(container(resources=Resources(oom_score_adj=-997)), image=ImageConfig(working_dir="/image"))["process"]
    assert process["user"] == {"uid": 1000, "gid": 2000, "additionalGids": [2000, 3000]}
    assert (process["cwd"], process["oomScoreAdj"]) == ("/image", -997)
    assert made(container(working_dir="/pod"), image=ImageConfig(working_dir="/image"))["process"]["cwd"] == "/pod"
    assert made()["process"]["cwd"] == "/"
    weak = Host(is_cgroup_v2=False, capabilities=ALL, least_oom_score=0)
    assert made(container(resources=Resources(oom_score_adj=-997)), host=weak)["process"]["oomScoreAdj"] == 0


def test_mounts_of_the_pod_replace_and_lie_over_those_of_the_kernel() -> None:
    config = container(mounts=(Mount("/a/b/c", "/deep"), Mount("/dev/shm/", "/mine"), Mount("/a", "/shallow", readonly=True)))
    found = {each["destination"]: each for each in spec.mounts(config, PLACES)}
    order = list(found)
    assert found["/dev/shm"]["source"] == "/mine"
    assert found["/a"]["options"] == ["rbind", "rprivate", "ro"]
    assert order.index("/a") < order.index("/a/b/c")
    assert order.index("/dev") < order.index("/dev/shm")
    assert found["/etc/resolv.conf"]["source"] == "/resolv"
    assert "ro" in found["/sys"]["options"]
    assert "ro" in found["/sys/fs/cgroup"]["options"]


def test_propagation() -> None:
    kinds = {each: Mount("/m", "/h", propagation=each) for each in Propagation}
    assert spec.root_propagation(()) == "rprivate"
    assert spec.root_propagation((kinds[Propagation.PRIVATE],)) == "rprivate"
    assert spec.root_propagation((kinds[Propagation.PRIVATE], kinds[Propagation.HOST_TO_CONTAINER])) == "rslave"
    assert spec.root_propagation(tuple(kinds.values())) == "rshared"
    found = spec.mounts(container(mounts=(kinds[Propagation.BIDIRECTIONAL],)), PLACES)
    assert next(each for each in found if each["destination"] == "/m")["options"] == ["rbind", "rshared", "rw"]


def test_volumes_of_the_image_that_the_pod_covers_are_the_pods() -> None:
    image = ImageConfig(volumes=("/data/", "/other", "/data", "/up/../out"))
    assert spec.image_volumes(container(mounts=(Mount("/other", "/h"),)), image) == ("/data",)


def test_privileged_has_all_and_no_masks() -> None:
    node = DeviceNode("/dev/x", "b", 8, 1, 0o660)
    found = made(
        container(security=Security(privileged=True, no_new_privileges=True)), devices=[(node, "rwm")], seccomp={"x": 1}, apparmor="p"
    )
    linux = found["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert linux["devices"] == [{"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o660, "uid": 0, "gid": 0}]
    assert "seccomp" not in linux
    assert "apparmorProfile" not in found["process"]
    assert found["process"]["noNewPrivileges"] is False
    assert all("ro" not in each["options"] for each in found["mounts"])


def test_masks_and_profiles() -> None:
    linux = made(seccomp={"defaultAction": "x"}, apparmor="p")["linux"]
    assert "/proc/kcore" in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["seccomp"] == {"defaultAction": "x"}
    assert made(apparmor="p")["process"]["apparmorProfile"] == "p"
    unmasked = made(container(security=Security(masked_paths=(), readonly_paths=("/a",))))["linux"]
    assert (unmasked["maskedPaths"], unmasked["readonlyPaths"]) == ([], ["/a"])


def test_device_rules_deny_first() -> None:
    node = DeviceNode("/dev/gpiochip0", "c", 254, 0)
    assert made(devices=[(node, "rw")])["linux"]["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 254, "minor": 0, "access": "rw"},
    ]


def test_resources() -> None:
    wanted = Resources(cpu_shares=512, cpu_quota=50000, cpu_period=100000, memory_limit=1 << 20, unified={"memory.high": "7"})
    one = spec.resources(wanted, V1, (), is_privileged=False)
    assert one["cpu"] == {"shares": 512, "quota": 50000, "period": 100000}
    assert one["memory"] == {"limit": 1 << 20}
    assert "unified" not in one
    two = spec.resources(wanted, V2, (), is_privileged=False)
    assert two["unified"] == {"memory.high": "7", "memory.oom.group": "1"}
    swap = spec.resources(wanted, Host(is_cgroup_v2=True, capabilities=ALL, limits_swap=True), (), is_privileged=False)
    assert swap["memory"] == {"limit": 1 << 20, "swap": 1 << 20}
    assert "cpu" not in spec.resources(Resources(cpu_period=100000), V1, (), is_privileged=False)
    huge = Resources(hugepages={"2Mi": 4 << 20})
    assert "hugepageLimits" not in spec.resources(huge, V1, (), is_privileged=False)
    able = Host(is_cgroup_v2=False, capabilities=ALL, has_hugetlb=True)
    assert len(spec.resources(huge, able, (), is_privileged=False)["hugepageLimits"]) == 1


def test_namespaces() -> None:
    kinds = {each["type"]: each.get("path", "") for each in made()["linux"]["namespaces"]}
    assert kinds == {"network": "/ns/net", "pid": "", "mount": ""}
    assert "cgroup" in {each["type"] for each in made(host=V2)["linux"]["namespaces"]}
    privileged = made(container(security=Security(privileged=True)), host=V2)
    assert "cgroup" not in {each["type"] for each in privileged["linux"]["namespaces"]}


def test_annotations_of_the_pod_stay_out() -> None:
    """crun obeys some of them."""
    assert "annotations" not in made(container(annotations={"run.oci.keep_original_groups": "1"}))


def test_process_of_an_exec_is_the_containers_with_another_command() -> None:
    process = made()["process"]
    found = spec.exec_process(process, ("ls",), tty=True)
    assert found["args"] == ["ls"]
    assert found["terminal"] is True
    assert "TERM=xterm" in found["env"]
    assert {**found, "args": 0, "terminal": 0, "env": 0} == {**process, "args": 0, "terminal": 0, "env": 0}
    assert spec.exec_process({**process, "env": ["TERM=vt100"]}, ("ls",), tty=True)["env"] == ["TERM=vt100"]
