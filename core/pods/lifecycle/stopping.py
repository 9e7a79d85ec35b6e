"""Ending containers: the preStop hook and the stop signal share one grace; sidecars end after the others."""

from __future__ import annotations

import asyncio
import logging

import orjson

from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import PRE_STOP, ContainerState
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.ports import HookFailed
from pinnace.core.pods.rules.observed import Observed
from pinnace.core.pods.rules.reconcile import Why
from pinnace.core.pods.rules.termination import MINIMUM_GRACE_SECONDS, stages

logger = logging.getLogger(__name__)


async def stop_pod(means: Means, pod: Pod, seen: Observed, ends_at: float) -> None:
    """End all containers, then the sandboxes with their network. `ends_at`: when the grace is over, in the clock's monotonic seconds; each
    container gets the minimum all the same. Raises RuntimeFailed when something could not be ended."""
    ip = pod_ip(means, pod, seen)
    for stage in stages(pod, seen.running):
        left = max(ends_at - means.clock.now(), 0.0)
        stops = [stop_container(means, pod, container_of(pod, each), each, why=Why.ENDING, grace=left, ip=ip) for each in stage]
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):  # after all had their turn
                raise outcome
    for sandbox in seen.sandboxes:
        await means.runtime.stop_sandbox(sandbox.id)


async def stop_container(means: Means, pod: Pod, container: Container, instance: Instance, *, why: Why, grace: float, ip: str) -> None:
    """`grace` in seconds, the preStop hook's time included; a hook without time left is skipped. Raises RuntimeFailed."""
    text = f"Container {container.name} {why.value}" if why.value else f"Stopping container {container.name}"
    means.note(pod, container, "Killing", text)
    logger.info(
        "pods.container.stopping pod=%s/%s container=%s grace=%.0fs why=%s", pod.namespace, pod.name, container.name, grace, why.name
    )
    handler = (container.spec.get("lifecycle") or {}).get("preStop")
    if handler and grace > 0 and instance.state is ContainerState.RUNNING:
        began = means.clock.now()
        try:
            await means.hooks.run(pod, container, handler, instance.id, ip, timeout_seconds=grace)
        except HookFailed as error:
            text = f"PreStopHook failed: {error}"
            means.warn(pod, container, "FailedPreStopHook", text)
        grace -= means.clock.now() - began
    await means.runtime.stop_container(instance.id, max(grace, MINIMUM_GRACE_SECONDS))


def container_of(pod: Pod, instance: Instance) -> Container:
    """The spec of what runs. Of a pod that is known from its containers only: what they carry with them."""
    known = pod.container(instance.name)
    if known is not None:
        return known
    spec: Object = {"name": instance.name, "image": instance.image_name}
    try:
        handler = orjson.loads(instance.annotations.get(PRE_STOP, ""))
    except orjson.JSONDecodeError:
        handler = None
    if isinstance(handler, dict):
        spec["lifecycle"] = {"preStop": handler}
    return Container(spec, is_init=False)


def pod_ip(means: Means, pod: Pod, seen: Observed) -> str:
    ips = pod_ips(means, pod, seen)
    return ips[0] if ips else ""


def pod_ips(means: Means, pod: Pod, seen: Observed) -> tuple[str, ...]:
    """The node's for a pod on the host's network."""
    if pod.host_network:
        return tuple(means.host_ips())
    return seen.sandbox.ips if seen.sandbox is not None else ()
