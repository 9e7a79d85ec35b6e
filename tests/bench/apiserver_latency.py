"""The embedded API server: from a write to its answer, and to a watcher who sees it, over HTTPS on loopback; writes a second; memory.

Figures are reported, not judged: they depend on the machine and its disk. `--json FILE` writes them down.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rig.figures import arguments, percentiles, pss_kb, report

from pinnace.core.base.cli import command_line

MERGE = {"Content-Type": "application/merge-patch+json"}
ROUNDS = 500
WRITERS = 16


def context(kubeconfig: Path) -> Any:
    import base64
    import ssl

    config = json.loads(kubeconfig.read_text())
    user = config["users"][0]["user"]
    pair = kubeconfig.with_suffix(".pem")
    pair.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
    made = ssl.create_default_context(cadata=base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode())
    made.load_cert_chain(pair)
    return made, config["clusters"][0]["cluster"]["server"]


async def measure(folder: Path) -> dict[str, Any]:
    kubeconfig = folder / "kubeconfig"
    process = await asyncio.create_subprocess_exec(
        *command_line("apiserver"), "--data-dir", str(folder / "data"), "--port", "0", "--kubeconfig", str(kubeconfig),
        "--log-level", "warning",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).startswith(b"ready")
        tls, url = context(kubeconfig)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            base = f"{url}/api/v1/namespaces/default/configmaps"
            found = {"idle_pss_kb": pss_kb(process.pid), **await latency(session, base), **await throughput(session, base)}
            return found | {"busy_pss_kb": pss_kb(process.pid)}
    finally:
        process.terminate()
        await process.wait()


async def write(session: aiohttp.ClientSession, url: str, text: str) -> None:
    async with session.patch(url, data=orjson.dumps({"data": {"n": text}}), headers=MERGE) as response:
        await response.read()
        assert response.status == 200


async def latency(session: aiohttp.ClientSession, base: str) -> dict[str, Any]:
    async with session.post(base, json={"metadata": {"name": "one"}, "data": {"n": ""}}) as response:
        version = (await response.json())["metadata"]["resourceVersion"]
    seen: dict[str, float] = {}
    arrived = asyncio.Event()
    is_open = asyncio.Event()

    async def watch() -> None:
        async with session.get(f"{base}?watch=1&resourceVersion={version}", timeout=aiohttp.ClientTimeout(total=None)) as response:
            is_open.set()
            async for line in response.content:
                seen[orjson.loads(line)["object"]["data"]["n"]] = time.perf_counter()
                arrived.set()

    watching = asyncio.create_task(watch())
    await is_open.wait()
    answered, watched = [], []
    for number in range(ROUNDS):
        begun = time.perf_counter()
        await write(session, f"{base}/one", str(number))
        answered.append(time.perf_counter() - begun)
        while str(number) not in seen:
            arrived.clear()
            await arrived.wait()
        watched.append(seen[str(number)] - begun)
    watching.cancel()
    return {"write_to_answer": percentiles(answered), "write_to_watch": percentiles(watched)}


async def throughput(session: aiohttp.ClientSession, base: str) -> dict[str, Any]:
    async def writer(number: int) -> None:
        async with session.post(base, json={"metadata": {"name": f"w{number}"}}) as response:
            await response.read()
        for index in range(ROUNDS // 4):
            await write(session, f"{base}/w{number}", str(index))

    begun = time.perf_counter()
    await asyncio.gather(*(writer(number) for number in range(WRITERS)))
    return {f"writes_per_second_of_{WRITERS}": round(WRITERS * (ROUNDS // 4 + 1) / (time.perf_counter() - begun))}


def main() -> int:
    args = arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = uvloop.run(measure(Path(folder)))
    return report(figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
