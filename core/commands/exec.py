"""Run a command in a container on this node, with its streams here: `pinnace exec -it POD -- sh`. Works without a network; for root.

The exit code is the command's."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pinnace.core.base.errors import ConfigError, PinnaceError
from pinnace.core.commands.parts import control

SUMMARY = "run a command in a container on this node"
_PROTOCOL = "v5.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", help="the pod's name")
    _add_options(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the command and its arguments")


def _add_options(parser: argparse.ArgumentParser) -> None:
    control.add_namespace(parser)
    parser.add_argument("-c", "--container", default="", help="which container (default: the first)")
    parser.add_argument("-i", "--stdin", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--tty", action="store_true", help="with a terminal")
    parser.add_argument("--json", action="store_true", help="say as JSON how it ended: {exit_code, stdout, stderr}")
    control.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    command = list(args.command)
    if command[:1] == ["--"]:
        del command[0]
    elif command and command[0].startswith("-"):  # flags between the pod and the command: argparse leaves them there
        at = command.index("--") if "--" in command else len(command)
        between = argparse.ArgumentParser(prog="pinnace exec", usage="pinnace exec [options] POD -- COMMAND ...")
        _add_options(between)
        args = between.parse_args(command[:at], args)
        command = command[at + 1 :]
    if not command:
        raise ConfigError("which command? pinnace exec POD -- COMMAND ...")
    path = control.socket_path(args)
    pod = control.find_pod(path, args.namespace, args.pod)
    is_tty = args.tty and not args.json
    if is_tty and args.stdin and not sys.stdin.isatty():
        raise ConfigError("-t: standard input is no terminal; leave -t out")
    where = control.target("exec", args.namespace, args.pod, control.container_of(pod, args.container))
    query = [("output", "1"), ("error", "1"), *([("input", "1")] if args.stdin else []), *([("tty", "1")] if is_tty else [])]
    query += [("command", each) for each in command]
    session = _Session(collects=args.json, has_stdin=args.stdin, is_tty=is_tty)
    with _raw_terminal() if is_tty and args.stdin else contextlib.nullcontext():
        code = asyncio.run(session.run(path, f"{where}?{urlencode(query)}"))
    if args.json:
        import orjson

        said = {"exit_code": code, "stdout": session.collected[_STDOUT], "stderr": session.collected[_STDERR]}
        print(orjson.dumps({key: bytes(each).decode(errors="replace") if isinstance(each, bytearray) else each
                            for key, each in said.items()}).decode())  # fmt: skip
    return code


class _Session:
    """One command over the agent's WebSocket."""

    def __init__(self, *, collects: bool, has_stdin: bool, is_tty: bool) -> None:
        self._collects = collects
        self._has_stdin = has_stdin
        self._is_tty = is_tty
        self.collected = {_STDOUT: bytearray(), _STDERR: bytearray()}

    async def run(self, path: Path, wanted: str) -> int:
        from websockets.asyncio.client import unix_connect
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.typing import Subprotocol

        reader, writer = await control.opened(path)  # says what is wrong in words of ours
        del reader
        writer.close()
        try:
            async with unix_connect(
                str(path), f"ws://localhost{wanted}", subprotocols=[Subprotocol(_PROTOCOL)], compression=None, max_size=None
            ) as socket:
                return await self._talk(socket)
        except InvalidStatus as error:
            raise PinnaceError(bytes(error.response.body or b"").decode(errors="replace").strip()) from error
        except (WebSocketException, OSError) as error:
            raise PinnaceError(f"the connection to the agent broke: {error}") from error

    async def _talk(self, socket: Any) -> int:
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._give(socket))] if self._has_stdin else []
        if self._is_tty:
            await self._resize(socket)
            loop.add_signal_handler(signal.SIGWINCH, lambda: tasks.append(asyncio.create_task(self._resize(socket))))
        try:
            async for message in socket:
                channel, data = message[0], message[1:]
                if channel in self.collected:
                    self._show(channel, data)
                elif channel == _ERROR:
                    return _exit_code(data)
        finally:
            for task in tasks:
                task.cancel()
        raise PinnaceError("the connection to the agent ended before the command did")

    def _show(self, channel: int, data: bytes) -> None:
        if self._collects:
            self.collected[channel] += data
            return
        stream = sys.stdout if channel == _STDOUT else sys.stderr
        stream.buffer.write(data)
        stream.buffer.flush()

    async def _give(self, socket: Any) -> None:
        """Standard input, read in a thread that ends with the process."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(4)  # full: the reading thread waits

        def read() -> None:
            with contextlib.suppress(RuntimeError, OSError):  # the loop ended meanwhile
                while data := os.read(0, 32768):
                    asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()
                asyncio.run_coroutine_threadsafe(queue.put(b""), loop).result()

        import threading

        threading.Thread(target=read, daemon=True).start()
        while data := await queue.get():
            await socket.send(bytes([_STDIN]) + data)
        await socket.send(bytes([_CLOSE, _STDIN]))

    async def _resize(self, socket: Any) -> None:
        import orjson

        size = os.get_terminal_size(0) if sys.stdin.isatty() else os.terminal_size((80, 24))
        await socket.send(bytes([_RESIZE]) + orjson.dumps({"Width": size.columns, "Height": size.lines}))


def _exit_code(data: bytes) -> int:
    """Of the Status that ends a session. Raises PinnaceError when it is no command's exit."""
    import orjson

    status = orjson.loads(data)
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise PinnaceError(str(status.get("message") or "the command could not be run"))


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Every key goes to the container; the terminal is as it was afterwards."""
    import termios
    import tty

    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
