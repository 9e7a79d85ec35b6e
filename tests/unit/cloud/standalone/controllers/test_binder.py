"""Claims and volumes find each other and part, on a real store; whoever dies in between goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig.waiting import eventually

from pinnace.cloud.standalone.controllers.binder import Binder
from pinnace.cloud.standalone.controllers.ephemerals import Ephemerals
from pinnace.cloud.standalone.controllers.garbage import Garbage
from pinnace.cloud.standalone.controllers.scheduler import Scheduler
from pinnace.cloud.standalone.deletion import DeleteOptions

Obj = dict[str, Any]
SIZE = {"storage": "1Gi"}
LATER: Obj = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
CLAIMS, VOLUMES, PODS = "persistentvolumeclaims", "persistentvolumes", "pods"


@dataclass
class World:
    parts: Any

    async def volume(self, name: str = "v", *, on: str = "", metadata: Obj | None = None, **spec: Any) -> Obj:
        body: Obj = {"capacity": SIZE, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/srv"}, **spec}
        if on:
            term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}
            body["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
        made: Obj = await self.parts.objects.create(
            self.parts.kind(VOLUMES), {"metadata": {"name": name, **(metadata or {})}, "spec": body}
        )
        return made

    async def claim(self, name: str = "c", **spec: Any) -> Obj:
        body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}, **spec}
        made: Obj = await self.parts.make(CLAIMS, name, "default", spec=body)
        return made

    async def pod(self, name: str, *claims: str, **spec: Any) -> Obj:
        volumes = [{"name": f"v{at}", "persistentVolumeClaim": {"claimName": each}} for at, each in enumerate(claims)]
        made: Obj = await self.parts.make(
            PODS, name, "default", spec={"containers": [{"name": "c", "image": "i"}], "volumes": volumes, **spec}
        )
        return made

    async def node(self, name: str) -> None:
        body = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
        await self.parts.objects.create(self.parts.kind("nodes"), body)

    async def storage_class(self, name: str, *, annotations: Obj | None = None, **parts: Any) -> None:
        kind = self.parts.kind("storageclasses", "storage.k8s.io")
        await self.parts.objects.create(kind, {"metadata": {"name": name, "annotations": annotations or {}}, **parts})

    async def change(self, plural: str, name: str, namespace: str = "", **parts: Any) -> None:
        await self.parts.objects.change(self.parts.kind(plural), name, namespace, lambda old: {**old, "spec": {**old["spec"], **parts}})

    async def delete(self, plural: str, name: str, namespace: str = "") -> None:
        await self.parts.deletion.delete(self.parts.kind(plural), name, namespace, DeleteOptions(grace=0))

    def read(self, plural: str, name: str, namespace: str = "") -> Obj | None:
        item = self.parts.state.table(plural).get(namespace, name)
        return item.decode() if item is not None else None

    async def phases(self) -> dict[str, str]:
        """claim or volume → phase, and the name of what it is bound to."""
        found = {}
        for plural in (CLAIMS, VOLUMES):
            for item in self.parts.state.table(plural).items(None):
                obj = item.decode()
                to = obj["spec"].get("volumeName") or (obj["spec"].get("claimRef") or {}).get("name") or ""
                found[item.name] = f"{obj['status']['phase']} {to}".strip()
        return found

    async def until(self, **phases: str) -> None:
        await eventually(self.phases, lambda found: found == phases, pause=0.002)

    def events(self) -> list[Obj]:
        return [item.decode() for item in self.parts.state.table("events").items(None)]

    async def said(self) -> list[tuple[str, str]]:
        return [(each["reason"], each["message"]) for each in self.events()]

    async def until_said(self, reason: str, message: str) -> None:
        await eventually(self.said, lambda found: (reason, message) in found, pause=0.002)

    async def node_of(self, pod: str) -> str:
        return str((self.read(PODS, pod, "default") or {"spec": {}})["spec"].get("nodeName", ""))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        given = self.parts.objects, self.parts.deletion
        tasks = [asyncio.create_task(each(*given).run()) for each in (Binder, Ephemerals, Garbage, Scheduler)]
        yield
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def world(parts: Any) -> AsyncIterator[World]:
    made = World(parts)
    async with made.working():
        yield made


@pytest.mark.parametrize("is_claim_first", [True, False])
async def test_a_bond(world: World, is_claim_first: bool) -> None:
    makes = [world.claim, world.volume]
    for make in makes if is_claim_first else makes[::-1]:
        await make()
    await world.until(c="Bound v", v="Bound c")
    claim, volume = world.read(CLAIMS, "c", "default"), world.read(VOLUMES, "v")
    assert claim is not None
    assert volume is not None
    assert claim["status"] == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": SIZE}
    yes = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
    assert claim["metadata"]["annotations"] == yes
    assert volume["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}
    assert volume["spec"]["claimRef"]["uid"] == claim["metadata"]["uid"]
    assert volume["status"]["lastPhaseTransitionTime"]


async def test_a_volume_that_comes_while_a_claim_is_told_that_there_is_none(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world, change, comes = World(parts), parts.objects.change, [1]

    async def slow(kind: Any, *given: Any, subresource: str = "", **named: Any) -> Any:
        if comes and (kind.plural, subresource) == (CLAIMS, "status"):
            comes.pop()
            await world.volume()
        return await change(kind, *given, subresource=subresource, **named)

    monkeypatch.setattr(parts.objects, "change", slow)
    async with world.working():
        await world.claim()
        await world.until(c="Bound v", v="Bound c")


async def test_by_hand_as_before_there_was_a_binder(world: World) -> None:
    await world.claim(volumeName="v")
    await world.until(c="Pending v")
    await world.volume(claimRef={"namespace": "default", "name": "c"}, storageClassName="any")
    await world.until(c="Bound v", v="Bound c")


async def test_what_is_asked_for_and_not_had(world: World) -> None:
    await world.volume("mine", claimRef={"namespace": "default", "name": "another"})
    await world.volume("small", capacity={"storage": "1Mi"})
    await world.claim("c", volumeName="mine")
    await world.claim("d", volumeName="small")
    await world.until_said("FailedBinding", 'volume "mine" already bound to a different claim.')
    await world.until_said("VolumeMismatch", 'Cannot bind to requested volume "small": requested PV is too small')
    await world.until(c="Pending mine", d="Pending small", mine="Available another", small="Available")


async def test_why_a_claim_waits(world: World) -> None:
    await world.storage_class("later", **LATER)
    await world.storage_class("now", provisioner="kubernetes.io/no-provisioner")
    await world.storage_class("made", provisioner="example.com/disks")
    for name, storage_class in (("a", ""), ("b", "none"), ("c", "now"), ("d", "made"), ("e", "later")):
        await world.claim(name, storageClassName=storage_class)
    await world.until_said("FailedBinding", "no persistent volumes available for this claim and no storage class is set")
    await world.until_said("ProvisioningFailed", 'storageclass.storage.k8s.io "none" not found')
    await world.until_said("ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner")
    await world.until_said("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    await eventually(world.said, lambda found: any(reason == "ExternalProvisioning" for reason, _ in found))
    await world.pod("p", "e")
    await world.until_said("WaitForPodScheduled", "waiting for pod p to be scheduled")
    await world.until(a="Pending", b="Pending", c="Pending", d="Pending", e="Pending")
    await world.volume(storageClassName="none")
    await world.until(a="Pending", b="Bound v", c="Pending", d="Pending", e="Pending", v="Bound b")
    assert all(event["count"] == 1 for event in world.events()), "said once, whatever changes around"


@pytest.mark.parametrize(
    ("policy", "phase", "said"),
    [
        ("Retain", "Released", None),
        (
            "Delete", "Failed",
            ("VolumeFailedDelete", 'error getting deleter volume plugin for volume "v": no deletable volume plugin matched'),
        ),
        ("Recycle", "Failed", ("VolumeFailedRecycle", "No recycler plugin found for the volume!")),
    ],
)  # fmt: skip
async def test_a_claim_goes(world: World, policy: str, phase: str, said: tuple[str, str] | None) -> None:
    await world.claim()
    await world.volume(persistentVolumeReclaimPolicy=policy)
    await world.until(c="Bound v", v="Bound c")
    await world.delete(CLAIMS, "c", "default")
    await world.until(v=f"{phase} c")
    if said is not None:
        await world.until_said(*said)
    await world.claim()
    await world.until(c="Pending", v=f"{phase} c")
    await world.change(VOLUMES, "v", claimRef=None)
    await world.until(c="Bound v", v="Bound c")


async def test_a_volume_goes_and_comes_back(world: World) -> None:
    await world.claim()
    await world.volume()
    await world.until(c="Bound v", v="Bound c")
    await world.delete(VOLUMES, "v")
    assert world.read(VOLUMES, "v"), "it is protected while it is bound"
    await world.parts.objects.change(
        world.parts.kind(VOLUMES), "v", "", lambda old: {**old, "metadata": {**old["metadata"], "finalizers": []}}
    )
    await world.until(c="Lost v")
    await world.until_said("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
    claim = world.read(CLAIMS, "c", "default")
    assert claim is not None
    assert claim["status"] == {"phase": "Lost"}
    await world.volume()
    await world.until(c="Bound v", v="Bound c")
    await world.delete(VOLUMES, "v")
    await world.delete(CLAIMS, "c", "default")
    await world.until()


async def test_two_claims_of_one_volume_and_two_volumes_of_one_claim(world: World) -> None:
    claim = await world.claim()
    await world.volume()
    await world.until(c="Bound v", v="Bound c")
    own = {"namespace": "default", "name": "c", "uid": claim["metadata"]["uid"]}
    await world.volume("w", claimRef=own)
    await world.until(c="Bound v", v="Bound c", w="Available c")
    kept = world.read(VOLUMES, "w")
    assert kept is not None
    assert kept["spec"]["claimRef"] == {"namespace": "default", "name": "c"}, "it stays kept for the name"
    other = await world.claim("d", storageClassName="none")
    await world.change(VOLUMES, "v", claimRef={"namespace": "default", "name": "d", "uid": other["metadata"]["uid"]})
    await eventually(world.phases, lambda found: found["c"] == "Lost v")
    await world.until_said("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")


async def test_a_claim_in_use_stays(world: World) -> None:
    await world.node("n")
    await world.claim()
    await world.volume()
    await world.pod("p", "c")
    await eventually(lambda: world.node_of("p"), lambda found: found == "n")
    await world.delete(CLAIMS, "c", "default")
    await world.pod("q", "c")
    await world.until_said("FailedScheduling", 'persistentvolumeclaim "c" is being deleted')
    await world.until(c="Bound v", v="Bound c")
    await world.delete(PODS, "p", "default")
    await world.until(v="Released c")
    await world.until_said("FailedScheduling", 'persistentvolumeclaim "c" not found')


async def test_protection_comes_to_what_was_there_before(world: World) -> None:
    await world.claim()
    await world.volume()
    for plural, name, namespace in ((CLAIMS, "c", "default"), (VOLUMES, "v", "")):
        await world.parts.objects.change(
            world.parts.kind(plural), name, namespace, lambda old: {**old, "metadata": {**old["metadata"], "finalizers": []}}
        )

        async def finalizers(plural: str = plural, name: str = name, namespace: str = namespace) -> list[str]:
            return list((world.read(plural, name, namespace) or {})["metadata"].get("finalizers") or ())

        await eventually(finalizers, lambda found: len(found) == 1)


async def test_the_default_class(world: World) -> None:
    await world.claim("old")
    await world.claim("none", storageClassName="")
    await world.until(old="Pending", none="Pending")
    await world.storage_class("usual", annotations={"storageclass.kubernetes.io/is-default-class": "true"}, **LATER)
    await world.storage_class("other", provisioner="p")

    async def classes() -> list[str | None]:
        return [(world.read(CLAIMS, name, "default") or {})["spec"].get("storageClassName") for name in ("old", "none")]

    await eventually(classes, lambda found: found == ["usual", ""])


async def test_a_volume_with_the_node(world: World) -> None:
    """Two claims of a pod: their volumes are on one node, and only there."""
    await world.storage_class("local", **LATER)
    for node in ("a", "b"):
        await world.node(node)
    await world.claim("c", storageClassName="local")
    await world.claim("d", storageClassName="local", resources={"requests": {"storage": "2Gi"}})
    await world.volume("on-a", on="a", storageClassName="local")
    await world.pod("p", "c", "d", "c")
    none = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
    await world.until_said("FailedScheduling", none)
    await world.volume("on-b", on="b", storageClassName="local", capacity={"storage": "5Gi"})
    assert await world.node_of("p") == ""
    await world.volume("also-on-b", on="b", storageClassName="local")
    await eventually(lambda: world.node_of("p"), lambda found: found == "b")
    bound = {"on-a": "Available", "on-b": "Bound d", "also-on-b": "Bound c"}
    await eventually(world.phases, lambda found: found == {"c": "Bound also-on-b", "d": "Bound on-b", **bound})


async def test_a_volume_that_was_bound_at_once_draws_its_pod(world: World) -> None:
    for node in ("a", "b"):
        await world.node(node)
    await world.pod("p", "c")
    await world.until_said("FailedScheduling", 'persistentvolumeclaim "c" not found')
    await world.claim()
    await world.until_said("FailedScheduling", "pod has unbound immediate PersistentVolumeClaims")
    await world.volume(on="b")
    await eventually(lambda: world.node_of("p"), lambda found: found == "b")


async def test_ephemeral_volumes(world: World) -> None:
    await world.node("n")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}}
    ephemeral = {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}
    await world.claim("taken-x", storageClassName="none")
    for name in ("p", "taken"):
        await world.pod(name, volumes=[{"name": "x", "ephemeral": ephemeral}])
    await world.volume()
    await eventually(lambda: world.node_of("p"), lambda found: found == "n")
    claim = world.read(CLAIMS, "p-x", "default")
    assert claim is not None
    assert claim["metadata"]["labels"] == {"a": "b"}
    assert [(each["kind"], each["name"], each["controller"]) for each in claim["metadata"]["ownerReferences"]] == [("Pod", "p", True)]
    why = "PVC default/taken-x was not created for pod default/taken (pod is not owner)"
    await world.until_said("FailedBinding", f"ephemeral volume x: {why}")
    await world.until_said("FailedScheduling", why)
    await world.delete(CLAIMS, "taken-x", "default")
    await eventually(world.phases, lambda found: found.get("taken-x") == "Pending", what="its own claim")
    await world.delete(PODS, "p", "default")
    await eventually(world.phases, lambda found: "p-x" not in found and found["v"] == "Released p-x")


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("writes", range(1, 5))
async def test_a_restart_goes_on_where_it_was(tmp_path: Path, wire: Any, writes: int) -> None:
    """A bond is at most this many writes old when the server dies."""
    before = World(wire(tmp_path))
    await before.parts.make("namespaces", "default")
    await before.volume("larger", capacity={"storage": "2Gi"})
    await before.volume()
    await before.claim()
    put, left = before.parts.state.put, [writes]

    def dying(*given: Any, **named: Any) -> Any:
        if not left[0]:
            raise Died
        left[0] -= 1
        return put(*given, **named)

    before.parts.state.put = dying
    with pytest.raises(Died):
        await Binder(before.parts.objects, before.parts.deletion).run()
    before.parts.store.close()

    after = World(wire(tmp_path))
    await after.volume("even-better")  # comes in between: the choice was made
    async with after.working():
        await after.until(c="Bound v", v="Bound c", larger="Available", **{"even-better": "Available"})
    after.parts.store.close()
