"""Nodes that run pods as far as the API can see: a pod bound to one is said to run and be ready, and one that ends goes away."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from typing import Any

MERGE = "application/strategic-merge-patch+json"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelets:
    """Every node of a namespace's pods at once. `holds` are parts of images whose pods never become ready; `silent` nodes say nothing."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.holds: set[str] = set()
        self.silent: set[str] = set()

    async def add(self, name: str, *, cpu: str = "4", memory: str = "4Gi", pods: str = "110", **labels: str) -> None:
        amounts = {"cpu": cpu, "memory": memory, "pods": pods}
        status = {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now()}],
        }
        await self._client.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}, "status": status})

    async def run(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        while True:
            for pod in (await self._client.get(path))["items"]:
                with contextlib.suppress(AssertionError, KeyError):
                    await self._look(f"{path}/{pod['metadata']['name']}", pod)
            await asyncio.sleep(0.02)

    async def _look(self, path: str, pod: Any) -> None:
        node = pod["spec"].get("nodeName")
        if not node or node in self.silent:
            return
        if "deletionTimestamp" in pod["metadata"]:
            await self._client.ask("DELETE", path, {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}})
            return
        is_ready = not any(part in each["image"] for part in self.holds for each in pod["spec"]["containers"])
        wanted = {"True": True, "False": False}
        known = {each["type"]: wanted.get(each["status"]) for each in pod["status"].get("conditions") or ()}
        if known.get("Ready") is is_ready:
            return
        state = {"running": {"startedAt": now()}}
        containers = [
            {"name": each["name"], "image": each["image"], "imageID": "", "ready": is_ready, "restartCount": 0, "state": state}
            for each in pod["spec"]["containers"]
        ]
        status = {
            "phase": "Running", "containerStatuses": containers, "startTime": now(), "podIP": "10.1.0.1",
            "conditions": [{"type": "Ready", "status": str(is_ready), "lastTransitionTime": now()}],
        }  # fmt: skip
        await self._client.ask("PATCH", f"{path}/status", {"status": status}, content_type=MERGE)
