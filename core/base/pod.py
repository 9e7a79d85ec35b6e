"""Views of a Pod object: the fields the edge asks for most, with the API's defaults where a pod came without them (core/v1 Pod)."""

from __future__ import annotations

import hashlib
from enum import Enum
from functools import cached_property
from typing import Any, Final

import orjson

Object = dict[str, Any]

DEFAULT_GRACE_SECONDS: Final = 30
CONFIG_SOURCE: Final = "kubernetes.io/config.source"
CONFIG_HASH: Final = "kubernetes.io/config.hash"
CONFIG_MIRROR: Final = "kubernetes.io/config.mirror"
"""Of the API's picture of a pod that a node runs by a file of its own; that pod's hash."""
CONFIG_SEEN: Final = "kubernetes.io/config.seen"


class RestartPolicy(Enum):
    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class Container:
    """One entry of containers or initContainers. Equal by what it says."""

    def __init__(self, spec: Object, *, is_init: bool) -> None:
        self.spec = spec
        self.name: str = spec.get("name", "")
        self.image: str = spec.get("image", "")
        self.is_init = is_init
        self.is_sidecar = is_init and spec.get("restartPolicy") == "Always"

    @cached_property
    def hash(self) -> str:
        """Changes when the container must be started anew. Of its name and image, which is all that the API lets change in place; the
        rest may come with other defaults from another API server, and that restarts nothing."""
        return hashlib.sha256(orjson.dumps([self.name, self.image])).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Container) and self.spec == other.spec and self.is_init == other.is_init

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"Container({self.name!r})"


class Pod:
    """A Pod object that nobody changes. `body` is the decoded object."""

    def __init__(self, body: Object) -> None:
        self.body = body
        self.metadata: Object = body.get("metadata") or {}
        self.spec: Object = body.get("spec") or {}
        self.status: Object = body.get("status") or {}

    @property
    def uid(self) -> str:
        return str(self.metadata.get("uid", ""))

    @property
    def name(self) -> str:
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self.metadata.get("namespace") or "default")

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def is_static(self) -> bool:
        """From a file on the node; its uid is the hash of the file."""
        return self.annotations.get(CONFIG_SOURCE) == "file" and CONFIG_MIRROR not in self.annotations

    @property
    def is_mirror(self) -> bool:
        """The API's picture of a static pod."""
        return CONFIG_MIRROR in self.annotations

    @property
    def is_deleting(self) -> bool:
        return bool(self.metadata.get("deletionTimestamp"))

    @property
    def grace_seconds(self) -> int:
        """How long its containers may take to end: of the deletion if there is one, else of the spec."""
        if self.is_deleting and (given := self.metadata.get("deletionGracePeriodSeconds")) is not None:
            return int(given)
        given = self.spec.get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE_SECONDS if given is None else int(given)

    @property
    def restart_policy(self) -> RestartPolicy:
        return RestartPolicy(self.spec.get("restartPolicy") or "Always")

    @property
    def log_folder(self) -> str:
        """The name of its folder below podLogsDir."""
        return f"{self.namespace}_{self.name}_{self.uid}"

    @property
    def host_network(self) -> bool:
        return bool(self.spec.get("hostNetwork"))

    @property
    def is_critical(self) -> bool:
        """Spared by eviction: static, or of node or cluster criticality (priority of 2 billion and more)."""
        return self.is_static or self.is_mirror or int(self.spec.get("priority") or 0) >= 2_000_000_000

    @cached_property
    def containers(self) -> tuple[Container, ...]:
        return tuple(Container(each, is_init=False) for each in self.spec.get("containers") or ())

    @cached_property
    def init_containers(self) -> tuple[Container, ...]:
        """Ordinary ones and sidecars, in the order of the spec."""
        return tuple(Container(each, is_init=True) for each in self.spec.get("initContainers") or ())

    @property
    def all_containers(self) -> tuple[Container, ...]:
        return (*self.init_containers, *self.containers)

    def container(self, name: str) -> Container | None:
        return next((each for each in self.all_containers if each.name == name), None)

    @property
    def reference(self) -> Object:
        """The object reference of events."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "resourceVersion": self.metadata.get("resourceVersion", ""),
        }

    def __repr__(self) -> str:
        return f"Pod({self.namespace}/{self.name} {self.uid})"
