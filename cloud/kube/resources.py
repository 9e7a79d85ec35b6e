"""The kinds cloudcore talks about, as the API serves them."""

from __future__ import annotations

from typing import Final

from pinnace.cloud.ports import Resource

NODES: Final = Resource("", "v1", "nodes", "Node", False)
PODS: Final = Resource("", "v1", "pods", "Pod", True)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", True)
SECRETS: Final = Resource("", "v1", "secrets", "Secret", True)
EVENTS: Final = Resource("", "v1", "events", "Event", True)
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount", True)
VOLUMES: Final = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
VOLUME_CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True)
VOLUME_ATTACHMENTS: Final = Resource("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", False)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)
DEFINITIONS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", False)

DEVICES: Final = Resource("devices.kubeedge.io", "v1beta1", "devices", "Device", True)
DEVICE_MODELS: Final = Resource("devices.kubeedge.io", "v1beta1", "devicemodels", "DeviceModel", True)
DEVICE_STATUSES: Final = Resource("devices.kubeedge.io", "v1beta1", "devicestatuses", "DeviceStatus", True)
OBJECT_SYNCS: Final = Resource("reliablesyncs.kubeedge.io", "v1alpha1", "objectsyncs", "ObjectSync", True)
CLUSTER_OBJECT_SYNCS: Final = Resource("reliablesyncs.kubeedge.io", "v1alpha1", "clusterobjectsyncs", "ClusterObjectSync", False)
