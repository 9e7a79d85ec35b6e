"""What a worker sees of its pod: the runtime's lists, the probes' verdicts, the last words of what has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from pinnace.core.base.pod import Pod
from pinnace.core.base.runtime import Container as Instance
from pinnace.core.base.runtime import ContainerState
from pinnace.core.pods.lifecycle.means import Means
from pinnace.core.pods.lifecycle.messages import termination_message
from pinnace.core.pods.lifecycle.stopping import pod_ip
from pinnace.core.pods.ports import ProbeKind, ProbeResult
from pinnace.core.pods.rules.observed import Observed, Verdict, observed


class Watch:
    """The eyes of one pod's worker. `messages` are termination messages by instance, each read once."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._probed: set[str] = set()
        self.messages: dict[str, str] = {}

    async def look(self, pod: Pod, *, started_here: Collection[str], is_probed: bool) -> Observed:
        """`started_here`: instances that this run of the agent started; the others were running before it. Raises RuntimeFailed."""
        sandboxes = await self._means.runtime.sandboxes(pod.uid)
        instances = await self._means.runtime.containers(pod.uid)
        seen = observed(sandboxes, instances)
        running = {each.id: each for each in instances if each.state is ContainerState.RUNNING} if is_probed else {}
        for gone in self._probed - running.keys():
            self._means.prober.forget(gone)
        self._probed = set(running)
        ip = pod_ip(self._means, pod, seen)
        for each in running.values():
            container = pod.container(each.name)
            if container is not None:
                is_restart = each.id not in started_here
                self._means.prober.watch(pod, container, each.id, ip, is_restart=is_restart, started_at=each.started_at)
        await self._read_messages(pod, instances)
        return Observed(seen.sandboxes, seen.instances, {each: self._verdict(each) for each in running})

    def close(self) -> None:
        for each in self._probed:
            self._means.prober.forget(each)
        self._probed.clear()

    def _verdict(self, instance_id: str) -> Verdict:
        startup, liveness, readiness = (self._means.prober.result(instance_id, kind) for kind in _KINDS)
        return Verdict(
            startup=None if startup is ProbeResult.UNKNOWN else startup is ProbeResult.SUCCESS,
            is_alive=liveness is not ProbeResult.FAILURE,
            is_ready=readiness is ProbeResult.SUCCESS,
        )

    async def _read_messages(self, pod: Pod, instances: Collection[Instance]) -> None:
        dead = [each for each in instances if each.state is ContainerState.EXITED]
        for each in dead:
            if each.id not in self.messages:
                container = pod.container(each.name)
                file = self._means.materials.termination_log(pod, container, each.attempt) if container is not None else None
                policy = str(container.spec.get("terminationMessagePolicy") or "") if container is not None else ""
                self.messages[each.id] = await asyncio.to_thread(termination_message, each, file, policy)
        for gone in self.messages.keys() - {each.id for each in dead}:
            del self.messages[gone]


_KINDS = (ProbeKind.STARTUP, ProbeKind.LIVENESS, ProbeKind.READINESS)
