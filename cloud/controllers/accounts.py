"""Service-account tokens for a node's pods: bound to a pod of that node which uses the account, and for nothing else."""

from __future__ import annotations

import logging
from typing import Any

from pinnace.cloud.controllers.answers import error_answer, forbidden, value_answer
from pinnace.cloud.controllers.pods import PodController
from pinnace.cloud.kube.resources import SERVICE_ACCOUNTS
from pinnace.cloud.ports import KubeApi, Object
from pinnace.core.base.contract.envelopes import Operation, load_body
from pinnace.core.base.contract.keys import NodeName, ResourceKey
from pinnace.core.base.errors import PinnaceError
from pinnace.core.base.pod import CONFIG_MIRROR
from pinnace.ext.records import Envelope

logger = logging.getLogger(__name__)


class AccountController:
    """Handles query `<ns>/serviceaccounttoken/<account>` with a TokenRequest (authentication.k8s.io/v1), as object or JSON text."""

    def __init__(self, api: KubeApi, placement: PodController) -> None:
        self._api = api
        self._placement = placement

    async def token(self, node: NodeName, key: ResourceKey, message: Envelope) -> list[Envelope]:
        if message.operation != Operation.QUERY:
            return [error_answer(message, f"{key.kind}: {message.operation} is not for nodes")]
        content = load_body(message)
        spec = content.get("spec") if isinstance(content, dict) else None
        bound = spec.get("boundObjectRef") if isinstance(spec, dict) else None
        pod = self._pod(node, key, bound if isinstance(bound, dict) else {})
        if pod is None or not isinstance(spec, dict):
            logger.warning("token.refused node=%s account=%s/%s: no pod of the node that uses it is named", node, key.namespace, key.name)
            why = "the request must be bound (spec.boundObjectRef) to a pod of the node that uses the account"
            return [error_answer(message, f"{forbidden(node, str(key))['message']}; {why}")]
        reference = {"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        asked: Object = {part: spec[part] for part in ("audiences", "expirationSeconds") if spec.get(part) is not None}
        body = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {**asked, "boundObjectRef": reference}}
        try:
            made = await self._api.create(SERVICE_ACCOUNTS, body, key.namespace, name=key.name, subresource="token")
        except PinnaceError as error:
            return [error_answer(message, str(error))]
        return [value_answer(message, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", **made})]

    def _pod(self, node: NodeName, key: ResourceKey, bound: dict[str, Any]) -> Object | None:
        """The pod a request is bound to, if the node runs it under that account. Never a mirror pod: the node itself makes those, in any
        namespace (Kubernetes API, node authorization)."""
        if bound.get("kind") != "Pod" or not bound.get("uid"):
            return None
        for pod in self._placement.of_node(node, key.namespace):
            if (pod["metadata"]["name"], pod["metadata"]["uid"]) == (bound.get("name"), bound["uid"]):
                if CONFIG_MIRROR in (pod["metadata"].get("annotations") or {}):
                    return None
                account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
                return pod if account == key.name else None
        return None
