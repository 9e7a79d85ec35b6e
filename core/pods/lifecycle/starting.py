"""Making a pod's sandbox and starting its containers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.base.runtime import RuntimeFailed
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.pulls import PodImages
from pinnace.core.pods.ports import HookFailed, SpecRefused

logger = logging.getLogger(__name__)

HOOK_SECONDS: Final = 3600.0
"""A postStart hook has no time limit of its own in Kubernetes; ours keeps a forgotten one from living for ever."""


class StartFailed(PinnaceError):
    """A sandbox or container could not be made or started; `reason` is the waiting reason."""

    retryable = True

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class HookBroken(PinnaceError):
    """The container runs, but its postStart hook failed: it is to be ended."""

    def __init__(self, message: str, container_id: str) -> None:
        super().__init__(message)
        self.container_id = container_id


async def make_sandbox(means: Means, pod: Pod, attempt: int) -> None:
    """Raises StartFailed."""
    try:
        config = means.materials.sandbox_config(pod, attempt)
        async with means.starts:
            sandbox_id = await means.runtime.run_sandbox(config)
    except (SpecRefused, RuntimeFailed) as error:
        message = f"Failed to create pod sandbox: {error}"
        means.events.pod(pod, "Warning", "FailedCreatePodSandBox", message)
        raise StartFailed(error.reason or "CreatePodSandboxError", message) from error
    logger.info("pods.sandbox.made pod=%s/%s id=%.12s attempt=%d", pod.namespace, pod.name, sandbox_id, attempt)


async def start_container(
    means: Means, images: PodImages, pod: Pod, container: Container, *, attempt: int, sandbox: tuple[str, int], pod_ips: Sequence[str]
) -> str:
    """Pull, make and start one container; returns its id. `sandbox` is (id, attempt). Raises pulls.NotYet, StartFailed."""
    image = await images.obtain(pod, container)
    sandbox_id, sandbox_attempt = sandbox
    try:
        sandbox_config = means.materials.sandbox_config(pod, sandbox_attempt)
        config = await means.materials.container_config(
            pod, container, attempt=attempt, image=image, pod_ips=pod_ips, sandbox=sandbox_config
        )
    except SpecRefused as error:
        raise _failed(means, pod, container, error.reason, str(error)) from error
    async with means.starts:
        try:
            container_id = await means.runtime.create_container(sandbox_id, config, sandbox_config)
        except RuntimeFailed as error:
            raise _failed(means, pod, container, "CreateContainerError", str(error)) from error
        means.note(pod, container, "Created", f"Created container: {container.name}")
        try:
            await means.runtime.start_container(container_id)
        except RuntimeFailed as error:
            raise _failed(means, pod, container, "RunContainerError", str(error)) from error
    means.note(pod, container, "Started", f"Started container {container.name}")
    logger.info("pods.container.started pod=%s/%s container=%s attempt=%d", pod.namespace, pod.name, container.name, attempt)
    return container_id


async def after_start(means: Means, pod: Pod, container: Container, container_id: str, pod_ip: str) -> None:
    """Its postStart hook. Raises HookBroken."""
    handler: Object | None = (container.spec.get("lifecycle") or {}).get("postStart")
    if not handler:
        return
    try:
        await means.hooks.run(pod, container, handler, container_id, pod_ip, timeout_seconds=HOOK_SECONDS)
    except HookFailed as error:
        means.warn(pod, container, "FailedPostStartHook", f"PostStartHook failed: {error}")
        raise HookBroken(str(error), container_id) from error


def _failed(means: Means, pod: Pod, container: Container, reason: str, message: str) -> StartFailed:
    means.warn(pod, container, "Failed", f"Error: {message}")
    return StartFailed(reason, message)
