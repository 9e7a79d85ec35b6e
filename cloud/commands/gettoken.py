"""Print the token with which a machine joins as a node: `pinnace join --token`. It is kept by cloudcore in Secret kubeedge/tokensecret."""

from __future__ import annotations

import argparse
import asyncio
import base64
from pathlib import Path

from pinnace.core.base.errors import PinnaceError, RefusedError, RemoteError

SUMMARY = "print the token for joining nodes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kube-config", "--kubeconfig", type=Path, metavar="PATH", dest="kubeconfig", help="how to reach the Kubernetes API"
    )
    parser.add_argument("--master", default="", metavar="URL", help="the API server's URL instead of the kubeconfig's")


def run(args: argparse.Namespace) -> int:
    print(asyncio.run(_token(args.master, args.kubeconfig)))
    return 0


async def _token(master: str, kubeconfig: Path | None) -> str:
    from pinnace.cloud.hub.vault import NAMESPACE, TOKEN_SECRET
    from pinnace.cloud.kube.access import load_access
    from pinnace.cloud.kube.api import HttpKubeApi
    from pinnace.cloud.kube.resources import SECRETS

    async with HttpKubeApi(await load_access(master=master, kubeconfig=kubeconfig)) as api:
        try:
            secret = await api.get(SECRETS, TOKEN_SECRET, NAMESPACE)
        except RemoteError as error:
            if error.code == 404:
                raise PinnaceError(f"there is no Secret {NAMESPACE}/{TOKEN_SECRET}; start cloudcore first, it makes the token") from error
            if error.code in {401, 403}:
                raise RefusedError(str(error)) from error
            raise
    token = base64.b64decode((secret.get("data") or {}).get("tokendata") or "").decode("ascii", "replace")
    if not token:
        raise PinnaceError(f"Secret {NAMESPACE}/{TOKEN_SECRET} holds no token; delete it and restart cloudcore")
    return token
