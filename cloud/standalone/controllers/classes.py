"""Storage classes: when a claim of one is bound, and who would make its volume: nobody here (Kubernetes API, storage/v1 StorageClass)."""

from __future__ import annotations

from typing import Final

from pinnace.cloud.standalone.controllers.owning import Owning
from pinnace.cloud.standalone.defaults import is_default_class
from pinnace.cloud.standalone.state import Object

_IN_TREE: Final = "kubernetes.io/"


def waits_for_pod(storage_class: Object | None) -> bool:
    """Whether claims of the class are bound once a pod that uses them has a node."""
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


class Classes:
    """Those that are there."""

    def __init__(self, own: Owning) -> None:
        self._own = own
        self.kind = own.kind("storageclasses", "storage.k8s.io")

    def find(self, name: str) -> Object | None:
        return self._own.find(self.kind, name) if name else None

    def default(self) -> str:
        """The class of claims that name none, "" when there is no default: the youngest of those marked as such."""
        marked = [obj["metadata"] for obj in (item.decode() for item in self._own.items(self.kind)) if is_default_class(obj)]
        marked.sort(key=lambda each: each["name"])
        youngest: Object = max(marked, key=lambda each: each["creationTimestamp"], default={})
        return str(youngest.get("name", ""))

    def why_nothing_is_made(self, name: str) -> tuple[str, str]:
        """Reason and message of the event for a claim of this class that no volume fits."""
        found = self.find(name)
        if found is None:
            return "ProvisioningFailed", f'storageclass.storage.k8s.io "{name}" not found'
        provisioner = found["provisioner"]
        if provisioner.startswith(_IN_TREE):
            return "ProvisioningFailed", f"no volume plugin matched name: {provisioner}"
        waiting = f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system"
        doubt = "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        return "ExternalProvisioning", f"{waiting} administrator. {doubt}"
