"""Pull policies (Kubernetes API, core/v1 Container.imagePullPolicy)."""

from __future__ import annotations

from enum import Enum

from pinnace.core.base.pod import Container


class PullPolicy(Enum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


def pull_policy(container: Container) -> PullPolicy:
    """As given; otherwise Always for the tag `latest` or none, IfNotPresent for other tags and digests."""
    given = container.spec.get("imagePullPolicy")
    if given in {each.value for each in PullPolicy}:
        return PullPolicy(given)
    name, _, digest = container.image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return PullPolicy.IF_NOT_PRESENT if digest or tag not in ("", "latest") else PullPolicy.ALWAYS
