"""What an earlier join left on this machine: whether it serves what is wished now, and what of it may change without asking the cloud."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinnace.core.base.contract.keys import NodeName
from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.base.settings.loader import load
from pinnace.core.commands import join
from pinnace.core.hub.settings import EdgeHubSettings

Tree = dict[str, Any]


class Joined:
    """`config` is the node's edgecore.yaml, where there is one; `wished` is what joining would write there. All of it blocks."""

    def __init__(self, config: Path, wished: Mapping[str, Any]) -> None:
        self._config = config
        self._wished: Tree = wished["modules"]

    def flaw(self, token: str) -> str:
        """Why this machine must join, or must join anew; "" while its certificate is the wished node's in the wished cloud. A `token` of
        another authority is another cloud's; whether it has expired does not matter here."""
        from pinnace.core.settings import EdgeCoreSettings

        try:
            if _essence(_modules(_tree(self._config))) != _essence(self._wished):
                return "cloud, name or ports are others than before"
            settings = load(self._config, EdgeCoreSettings)
            _check_authority(settings.modules.edge_hub, token)
            return asyncio.run(_certificate_flaw(settings.modules.edge_hub, settings.node))
        except PinnaceError as error:
            return str(error)

    def follow(self) -> bool:
        """Write labels and tunnel as they are wished, and leave everything else as it is; whether that changed anything. Only without a
        flaw. Raises ConfigError."""
        tree = _tree(self._config)
        modules = _modules(tree)
        edged = {key: value for key, value in modules["edged"].items() if key != "nodeLabels"}
        if labels := self._wished["edged"].get("nodeLabels"):
            edged["nodeLabels"] = labels
        stream = {**(modules.get("edgeStream") or {}), "server": self._wished["edgeStream"]["server"]}
        followed = {**modules, "edged": edged, "edgeStream": stream}
        if followed == modules:
            return False
        join.write(self._config, {**tree, "modules": followed})
        return True


def name(config: Path) -> str:
    """The node's, by its edgecore.yaml; "" where that says nothing."""
    try:
        return str((_modules(_tree(config)).get("edged") or {}).get("hostnameOverride") or "")
    except (ConfigError, AttributeError):
        return ""


def _tree(config: Path) -> Tree:
    """Raises ConfigError."""
    import yaml

    try:
        found = yaml.safe_load(config.read_bytes())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{config}: cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _modules(tree: Tree) -> Tree:
    found = tree.get("modules")
    return found if isinstance(found, dict) else {}


def _essence(modules: Tree) -> tuple[object, ...]:
    """What a certificate is asked for, from whom, and where it is shown."""
    try:
        hub = modules["edgeHub"]
        return hub["httpServer"], hub["websocket"]["server"], modules["edged"]["hostnameOverride"]
    except (KeyError, TypeError):
        return ()


def _check_authority(settings: EdgeHubSettings, token: str) -> None:
    """Raises RefusedError when the token is not of the cloud that was joined, ConfigError when that one's certificate is of no use."""
    from pinnace.core.hub.certificates import check_authority, parse_token

    if not token:
        return
    try:
        der = ssl.PEM_cert_to_DER_cert(settings.tls_ca_file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{settings.tls_ca_file}: cannot be read: {error}") from error
    check_authority(der, parse_token(token))


async def _certificate_flaw(settings: EdgeHubSettings, node: NodeName) -> str:
    from pinnace.core.hub.certificates import Certificates

    return await Certificates(settings, node).flaw()
