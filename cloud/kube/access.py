"""Which API server cloudcore talks to and as whom: a kubeconfig file, the pod's service account, or a bare URL."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio import client, config
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import kube_config
from kubernetes.aio.config.config_exception import ConfigException

from pinnace.core.base.errors import ConfigError

Authorize = Callable[[], Awaitable[str]]
"""The value of the Authorization header for the next request, "" for none (a client certificate speaks then)."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the API server is and what proves who we are."""

    url: str
    context: ssl.SSLContext | None
    authorize: Authorize
    server_name: str = ""
    proxy: str = ""
    ca: str = ""
    """PEM text of the authority that signs the server's certificate, "" when the system's are used."""


async def load_access(*, master: str = "", kubeconfig: Path | None = None) -> Access:
    """Read it from `kubeconfig`; without one from the pod's service account, then from `$KUBECONFIG` or ~/.kube/config. `master`
    replaces the server's URL, and alone it is spoken to without a credential. Raises ConfigError."""
    settings = client.Configuration()
    settings.retries = None
    try:
        if kubeconfig is not None:
            await config.load_kube_config(str(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]
        elif "KUBERNETES_SERVICE_HOST" in os.environ and not master:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        elif not master:
            await config.load_kube_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        if master:
            settings.host = master.rstrip("/")
        rest = RESTClientObject(settings)
        ca = Path(settings.ssl_ca_cert).read_text() if settings.ssl_ca_cert else ""  # noqa: ASYNC240 - once, at the start
    except (ConfigException, OSError, KeyError, ValueError, TypeError) as error:
        source = kubeconfig or master or "the default kubeconfig"
        raise ConfigError(
            f"{source}: cannot be used to reach the Kubernetes API: {error}; give another with --kubeconfig or $KUBECONFIG"
        ) from error
    finally:
        kube_config._cleanup_temp_files()  # type: ignore[no-untyped-call]  # keys from the file

    async def authorize() -> str:
        return await settings.get_api_key_with_prefix("BearerToken", alias="authorization") or ""

    return Access(
        url=str(settings.host),
        context=rest.ssl_context if str(settings.host).startswith("https") else None,
        authorize=authorize,
        server_name=settings.tls_server_name or "",
        proxy=settings.proxy or "",
        ca=ca,
    )


def ca_pem(access: Access) -> str:
    """The authority's certificate as edges ask for it (`k8s/ca.crt`)."""
    return access.ca
