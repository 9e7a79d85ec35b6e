"""What every cluster has from the start: the system namespaces and the `kubernetes` service with its endpoints."""

from __future__ import annotations

import ipaddress

from pinnace.cloud.standalone.objects import Objects, equal
from pinnace.cloud.standalone.state import Object
from pinnace.cloud.standalone.status import ApiError

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "kubeedge")
SERVICE_ADDRESS = "10.96.0.1"


async def bootstrap(objects: Objects, address: str, port: int) -> None:
    """Make what is missing, and bring the endpoints up to date with where the server listens."""
    for name in NAMESPACES:
        await _ensure(objects, "", "namespaces", "", {"metadata": {"name": name}})
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]
    labels = {"component": "apiserver", "provider": "kubernetes"}
    spec = {
        "type": "ClusterIP", "clusterIP": SERVICE_ADDRESS, "clusterIPs": [SERVICE_ADDRESS], "ports": ports, "sessionAffinity": "None",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
    }  # fmt: skip
    service = {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec, "status": {"loadBalancer": {}}}
    await _ensure(objects, "", "services", "default", service, "spec")
    try:
        family = "IPv6" if ipaddress.ip_address(address).version == 6 else "IPv4"
    except ValueError:
        family = "FQDN"
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    subsets = [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]
    endpoints = {"metadata": {"name": "kubernetes", "labels": labels}, "subsets": subsets}
    if not ipaddress.ip_address(address).is_loopback:  # endpoints may not be loopback (Kubernetes API, EndpointAddress)
        await _ensure(objects, "", "endpoints", "default", endpoints, "subsets")
    slice_ = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    if not ipaddress.ip_address(address).is_loopback:
        await _ensure(objects, "discovery.k8s.io", "endpointslices", "default", slice_, "endpoints", "ports")


async def _ensure(objects: Objects, group: str, plural: str, namespace: str, wanted: Object, *kept_equal: str) -> None:
    kind = objects.registry.get(group, "v1", plural)
    assert kind is not None
    name = wanted["metadata"]["name"]
    item = objects.state.table(kind.table).latest(namespace, name)
    if item is None:
        try:
            await objects.create(kind, wanted, namespace)
        except ApiError as error:
            if error.code != 409:
                raise
        return
    found = item.decode()
    parts = {part: wanted[part] for part in kept_equal if not equal(found.get(part), wanted[part])}
    if parts:
        await objects.change(kind, name, namespace, lambda old: {**old, **parts})
