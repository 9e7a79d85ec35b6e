"""The Container Network Interface, the runtime's side (CNI specification 1.0): configuration lists and running their plugins."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from pinnace.core.base.aio import children
from pinnace.core.base.runtime import RuntimeFailed

Conf = Mapping[str, Any]
TIMEOUT_SECONDS: Final = 60.0
_MOST_OUTPUT: Final = 1 << 20


class NetworkFailed(RuntimeFailed):
    """A network could not be set up or taken down; `code` is the plugin's (CNI specification, section 5), 0 when it gave none."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message, reason="CreatePodSandboxError")
        self.code = code


@dataclass(frozen=True, slots=True)
class Network:
    """A configuration list: plugins run in order for ADD and CHECK, in reverse for DEL."""

    name: str
    version: str
    plugins: tuple[Conf, ...]
    source: str = ""
    disables_check: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """One container on one network. `netns` "" when it is gone; `capabilities` go to the plugins that say they have them."""

    container_id: str
    netns: str
    interface: str = "eth0"
    args: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)


def parse(content: bytes, source: str) -> Network:
    """A .conflist, or a .conf of one plugin. Raises NetworkFailed that names the file."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise NetworkFailed(f"{source}: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("name"), str) or not found["name"]:
        raise NetworkFailed(f"{source}: expected a network configuration with a name")
    plugins = found.get("plugins", [found])
    if not isinstance(plugins, list) or not plugins:
        raise NetworkFailed(f"{source}: expected a list of plugins")
    for each in plugins:
        kind = each.get("type") if isinstance(each, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            raise NetworkFailed(f"{source}: every plugin needs a type, the name of a program")
    return Network(
        found["name"],
        str(found.get("cniVersion", "0.1.0")),
        tuple(plugins),
        source,
        disables_check=found.get("disableCheck") in (True, "true"),
    )


def configured(folder: Path) -> Network | None:
    """The first configuration by name, as every runtime chooses; None when there is none. Raises NetworkFailed when all are bad."""
    problem: NetworkFailed | None = None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(folder.iterdir()):
            if path.suffix in (".conflist", ".conf", ".json"):
                try:
                    return parse(path.read_bytes(), str(path))
                except NetworkFailed as error:
                    problem = problem or error
                except OSError as error:
                    problem = problem or NetworkFailed(f"{path}: {error.strerror}")
    if problem is not None:
        raise problem
    return None


def addresses(result: Conf) -> tuple[str, ...]:
    """The addresses of a result, without their prefix; versions 0.2 to 1.0."""
    found = [str(each.get("address", "")) for each in result.get("ips") or () if isinstance(each, dict)]
    found += [str(result[key].get("ip", "")) for key in ("ip4", "ip6") if isinstance(result.get(key), dict)]
    return tuple(each.partition("/")[0] for each in found if each)


class Plugins:
    """Runs plugins found in `folders`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def find(self, kind: str) -> Path | None:
        return next((path for path in (folder / kind for folder in self._folders) if os.access(path, os.X_OK) and path.is_file()), None)

    def missing(self, network: Network) -> list[str]:
        """Programs the network needs and that are not there."""
        kinds = [str(each["type"]) for each in network.plugins]
        kinds += [str(each["ipam"]["type"]) for each in network.plugins if isinstance(each.get("ipam"), dict) and each["ipam"].get("type")]
        return [each for each in dict.fromkeys(kinds) if self.find(each) is None]

    async def add(self, network: Network, attachment: Attachment) -> Conf:
        """The last plugin's result. Raises NetworkFailed; what the earlier plugins did is undone."""
        result: Conf | None = None
        try:
            for plugin in network.plugins:
                result = await self._run("ADD", network, plugin, attachment, result)
        except BaseException:
            with contextlib.suppress(NetworkFailed):
                await asyncio.shield(self.delete(network, attachment, result))
            raise
        return result or {}

    async def check(self, network: Network, attachment: Attachment, result: Conf) -> None:
        """Is all as `add` left it? Raises NetworkFailed. Networks older than 0.4.0 cannot tell."""
        if network.disables_check or network.version < "0.4.0":
            return
        for plugin in network.plugins:
            await self._run("CHECK", network, plugin, attachment, result)

    async def delete(self, network: Network, attachment: Attachment, result: Conf | None) -> None:
        """Every plugin is asked, the last first, even when one fails; the first failure is raised at the end."""
        problem: NetworkFailed | None = None
        for plugin in reversed(network.plugins):
            try:
                await self._run("DEL", network, plugin, attachment, result if network.version >= "0.4.0" else None)
            except NetworkFailed as error:
                problem = problem or error
        if problem is not None:
            raise problem

    async def _run(self, command: str, network: Network, plugin: Conf, attachment: Attachment, previous: Conf | None) -> Conf:
        kind = str(plugin["type"])
        program = self.find(kind)
        if program is None:
            where = ", ".join(map(str, self._folders))
            raise NetworkFailed(f"the network plugin {kind} is not in {where}; install containernetworking-plugins or set cniBinDirs")
        asked = plugin.get("capabilities") or {}
        conf: dict[str, Any] = {**plugin, "name": network.name, "cniVersion": network.version}
        conf.pop("capabilities", None)
        given = {name: value for name, value in attachment.capabilities.items() if asked.get(name)}
        if given:
            conf["runtimeConfig"] = given
        if previous is not None:
            conf["prevResult"] = previous
        environment = {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.interface,
            "CNI_ARGS": ";".join(f"{name}={value}" for name, value in attachment.args.items()),
            "CNI_PATH": ":".join(map(str, self._folders)),
        }
        status, output, errors = await _process(program, environment, orjson.dumps(conf))
        return _answer(f"{command} of the network plugin {kind}", status, output, errors)


async def _process(program: Path, environment: Mapping[str, str], given: bytes) -> tuple[int, bytes, bytes]:
    try:
        process = await children.start(program, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=dict(environment))
        output, errors = await children.hear(process, given, seconds=TIMEOUT_SECONDS)
    except TimeoutError as error:
        raise NetworkFailed(f"the network plugin {program.name} did not end within {TIMEOUT_SECONDS:g} s") from error
    except OSError as error:
        raise NetworkFailed(f"cannot run the network plugin {program}: {error.strerror}") from error
    return process.returncode or 0, output[:_MOST_OUTPUT], errors


def _answer(what: str, status: int, output: bytes, errors: bytes) -> Conf:
    try:
        found = orjson.loads(output) if output.strip() else {}
    except orjson.JSONDecodeError:
        found = None
    if status != 0:
        said = found if isinstance(found, dict) else {}
        text = " ".join(str(said[key]) for key in ("msg", "details") if said.get(key)) or errors.decode(errors="replace").strip()[-500:]
        code = said.get("code", 0)
        raise NetworkFailed(f"{what} failed: {text or f'exit code {status}'}", code=code if isinstance(code, int) else 0)
    if not isinstance(found, dict):
        raise NetworkFailed(f"{what} answered what is no JSON object")
    return found
