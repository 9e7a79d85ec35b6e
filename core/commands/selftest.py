"""Tell whether this build is whole: the compiled hot paths are the ones loaded and agree with their reference, the database schema is
readable, TLS and the event loop work, and every sub-command this build contains can be imported. Exit 0 only when all of it is so."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

SUMMARY = "is this build whole?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def hot_paths() -> str:
    """The facades give the compiled classes, and a message survives the round trip through envelope and frame."""
    import importlib

    from pinnace.ext import envelope, frame

    names = ("envelope", "frame", "metacache", "twindiff")
    files = [importlib.import_module(f"pinnace.ext.{name}_c").__file__ or "" for name in names]
    if not all(each.endswith(".so") for each in files):
        raise RuntimeError(f"not compiled: {files}")
    text = (
        b'{"header":{"msg_id":"m1","timestamp":1},"route":{"source":"s","group":"g","operation":"update",'
        b'"resource":"default/configmap/c"},"content":{"a":[1,"\\u00e9"]}}'
    )
    message = envelope.decode(text)
    if envelope.encode(message) != text:
        raise RuntimeError("an envelope changed in the round trip")
    if frame.FrameReader().feed(frame.pack([message])) != [message]:
        raise RuntimeError("a frame changed in the round trip")
    return f"{len(names)} compiled"


def schema() -> str:
    """The SQL of the store is in the build and SQLite takes it."""
    import asyncio
    import tempfile
    from pathlib import Path

    from pinnace.core.meta.store import Store

    async def opened() -> str:
        with tempfile.TemporaryDirectory() as folder:
            async with Store(Path(folder) / "edge.db") as store:
                return f"version {store.schema_version}"

    return asyncio.run(opened())


def tls() -> str:
    """OpenSSL is there and offers TLS 1.3 to clients."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return ssl.OPENSSL_VERSION


def loop() -> str:
    """uvloop runs a timer and a socket pair."""
    import asyncio
    import socket

    import uvloop

    async def pair() -> str:
        left, right = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=left)
        other = await asyncio.open_connection(sock=right)
        writer.write(b"x")
        got = await asyncio.wait_for(other[0].readexactly(1), 5)
        writer.close()
        other[1].close()
        if got != b"x":
            raise RuntimeError("a byte was lost between two sockets")
        del reader
        return uvloop.__name__

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(pair())


def commands() -> str:
    """Every sub-command that this build contains imports and builds its arguments."""
    from pinnace.core.base import cli

    found = []
    for name in cli.names():
        command = cli.load(name)
        if command is not None:
            command.add_arguments(argparse.ArgumentParser(prog=name))
            found.append(name)
    if "edgecore" not in found:
        raise RuntimeError(f"edgecore is missing among {found}")
    return " ".join(found)


def agent() -> str:
    """All of the edge imports: what is only loaded on demand is there too."""
    import importlib

    ours = ("agent", "pods.host", "pods.oci.runtime", "pods.cri.runtime", "pods.images.child", "pods.probes.health")
    others = ("websockets.asyncio.client", "paho.mqtt.client", "yaml", "zstandard", "urllib3", "h2.connection")
    for name in (*(f"pinnace.core.{each}" for each in ours), *others):
        importlib.import_module(name)
    return "complete"


def shim() -> str:
    """What supervises containers is in the build and runs on this machine; it knows no order without words."""
    import subprocess

    from pinnace.core.pods.oci.shims import PROGRAM

    code = subprocess.run([PROGRAM], capture_output=True, check=False, timeout=10).returncode
    if code != 2:
        raise RuntimeError(f"{PROGRAM} answered {code}")
    return f"{PROGRAM.stat().st_size >> 10} KiB"


def brought() -> str:
    """What a frozen build brings along runs, and is what is used; a key and a request can be made with it."""
    import asyncio
    import os
    import subprocess

    from pinnace.core.base import bundle
    from pinnace.core.base.contract.keys import NodeName
    from pinnace.core.hub.openssl import key_and_request

    asyncio.run(key_and_request(NodeName("selftest")))
    if bundle.folder() is None:
        return "nothing, this is no frozen build"
    asked = [("mosquitto", "-h", (0, 1, 3)), ("openssl", "version", (0,))]
    if not is_emulated():
        asked.append(("crun", "--version", (0,)))
    for name, flag, codes in asked:
        done = subprocess.run([bundle.program(name), flag], capture_output=True, check=False, timeout=60, env={"PATH": os.defpath})
        if bundle.program(name) == name or done.returncode not in codes or not done.stdout:
            raise RuntimeError(f"{bundle.program(name)} answered {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    plugins = sorted(bundle.plugin_folders()[0].iterdir())
    for each in plugins:
        environment = {"PATH": os.defpath, "CNI_COMMAND": "VERSION"}
        done = subprocess.run([each], input=b'{"cniVersion":"0.4.0"}', env=environment, capture_output=True, check=False, timeout=60)
        if b"supportedVersions" not in done.stdout:
            raise RuntimeError(f"{each} answered {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    if not os.access(bundle.program("crun"), os.X_OK):
        raise RuntimeError("crun was not brought along")
    return f"crun{' (not run under an emulator)' * is_emulated()}, mosquitto, openssl, {len(plugins)} network plugins"


def is_emulated() -> bool:
    """Does qemu's user mode run this program, on a machine of another kind? crun starts itself anew from its open file, which is qemu's
    own program there. This name of the process's file is one that qemu does not disguise."""
    import os
    from pathlib import Path

    try:
        return Path(f"/proc/self/task/{os.getpid()}/exe").readlink().name.startswith("qemu-")
    except OSError:
        return False


CHECKS: dict[str, Callable[[], str]] = {
    "hot paths": hot_paths,
    "schema": schema,
    "tls": tls,
    "loop": loop,
    "commands": commands,
    "agent": agent,
    "shim": shim,
    "brought": brought,
}


def run(args: argparse.Namespace) -> int:
    results: dict[str, dict[str, object]] = {}
    for name, check in CHECKS.items():
        try:
            results[name] = {"ok": True, "found": check()}
        except Exception as error:  # noqa: BLE001 - a broken build can fail in any way; the answer is this table
            results[name] = {"ok": False, "found": f"{type(error).__name__}: {error}"}
    is_whole = all(each["ok"] for each in results.values())
    if args.json:
        import orjson

        print(orjson.dumps({"ok": is_whole, "checks": results}).decode())
    else:
        for name, result in results.items():
            print(f"{'ok  ' if result['ok'] else 'FAIL'} {name:<10} {result['found']}")
        if not is_whole:
            print("this build is not whole: install it again, and report it if that does not help", file=sys.stderr)
    return 0 if is_whole else 1
