"""All talk with the Kubernetes API server: which one and as whom (access), the calls (api), the kinds by name (resources)."""

from pinnace.cloud.kube.access import Access, ca_pem, load_access
from pinnace.cloud.kube.api import ApiFailure, HttpKubeApi

__all__ = ["Access", "ApiFailure", "HttpKubeApi", "ca_pem", "load_access"]
