"""Lifecycle handlers: postStart and preStop (Kubernetes API, core/v1 LifecycleHandler)."""

from __future__ import annotations

import asyncio
from typing import Final

from pinnace.core.base.aio.clock import Clock, LoopClock
from pinnace.core.base.pod import Container, Object, Pod
from pinnace.core.pods.ports import HookFailed
from pinnace.core.pods.probes.looks import Executor, Looks, Target
from pinnace.core.pods.rules.probing import Outcome

_METHODS: Final = ("exec", "httpGet", "tcpSocket")


class LifecycleHooks:
    """Implements ports.Hooks."""

    def __init__(self, runtime: Executor, *, clock: Clock | None = None) -> None:
        self._looks = Looks(runtime)
        self._clock = clock or LoopClock()

    async def run(self, pod: Pod, container: Container, handler: Object, container_id: str, pod_ip: str, *, timeout_seconds: float) -> None:
        try:
            pause = None if handler.get("sleep") is None else float(handler["sleep"].get("seconds") or 0)
        except (AttributeError, TypeError, ValueError) as error:  # nothing that a hook is may keep its container from ending
            raise HookFailed(f"invalid handler: {error}") from error
        if pause is not None:
            await self._clock.sleep(min(pause, timeout_seconds))
            return
        method = next((each for each in _METHODS if handler.get(each) is not None), None)
        if method is None:
            raise HookFailed(f"invalid handler: expected one of {', '.join(_METHODS)} or sleep")
        try:
            async with asyncio.timeout(timeout_seconds):
                seen = await self._looks.look(
                    method, handler[method], Target(container, container_id, pod_ip, pod.host_network), timeout_seconds
                )
        except TimeoutError as error:
            raise HookFailed(f"{method} hook did not end within {timeout_seconds:g} s") from error
        if seen.outcome not in (Outcome.SUCCESS, Outcome.WARNING):
            raise HookFailed(f"{method} hook failed: {seen.message}")
