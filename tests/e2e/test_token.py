"""The join token is a secret: whatever happens and however much is logged, it is in nobody's log."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path

import pytest
import yaml
from rig.system import System, eventually

pytestmark = pytest.mark.mosquitto


def secrets_of(token: str) -> list[str]:
    """The parts of a token that let somebody join: all but the authority's hash."""
    return token.split(".")[2:]


async def test_is_never_logged_and_stays_in_the_file(tmp_path: Path) -> None:
    system = System(tmp_path)
    for child in (system.cloud, system.edge):
        child.command += ["--log-level", "debug"]
    async with system.running() as kube:
        secret = await kube.get("/api/v1/namespaces/kubeedge/secrets/tokensecret")
        token = base64.b64decode(secret["data"]["tokendata"]).decode()
        config = tmp_path / "edgecore.yaml"
        written = config.read_bytes()
        assert token in written.decode()

        # A cloud that refuses the token, one that is another's, and a token that is none.
        await system.edge.stop()
        forged = token[:-3] + ("AAA" if not token.endswith("AAA") else "BBB")
        foreign = "0" * 64 + token[64:]
        for wrong, said in ((forged, "signature is invalid"), (foreign, "this is not the cloud"), (token + ".x", "expected four parts")):
            for name in ("rootCA.crt", "server.crt", "server.key"):
                (tmp_path / "certs" / name).unlink(missing_ok=True)
            tree = yaml.safe_load(written)
            tree["modules"]["edgeHub"]["token"] = wrong
            config.write_text(yaml.safe_dump(tree))
            await system.edge.start()
            await eventually(partial(said_in_log, system, said), bool, system)
            await system.edge.stop()

        config.write_bytes(written)
        await system.edge.start()
        await eventually(lambda: log_of(system), lambda log: log.count("hub.joined") == 2, system)
        assert config.read_bytes() == written
    for child in system.children:
        log = child.log.read_text()
        assert not [part for part in (*secrets_of(token), *secrets_of(forged)) if part in log], child.name


async def said_in_log(system: System, words: str) -> bool:
    return words in await log_of(system)


async def log_of(system: System) -> str:
    return system.edge.log.read_text()
