"""The child process that fetches or imports images, so that the agent's memory and loop stay untouched by it.

One JSON object on stdin says what to do (secrets never stand in arguments or environment); JSON lines on stdout tell progress, images and
the error. The end of stdin is the end of the agent, and of the child.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import orjson

from pinnace.core.base.runtime import Credential, PullFailed
from pinnace.core.base.settings.edged import RegistrySettings
from pinnace.core.pods.images import archives, fetching
from pinnace.core.pods.images.index import StoredImage
from pinnace.core.pods.images.layout import Layout
from pinnace.core.pods.images.manifests import platforms
from pinnace.core.pods.images.references import parse
from pinnace.core.pods.images.tree import LayerRefused

_PROGRESS_SECONDS: Final = 0.2


class _Lines:
    """What goes to the agent, one JSON object a line; progress at most five times a second, the last always."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._at = 0.0

    def progress(self, had: int, total: int) -> None:
        now = time.monotonic()
        with self._lock:
            if had != total and now - self._at < _PROGRESS_SECONDS:
                return
            self._at = now
        self.say({"progress": [had, total]})

    def say(self, document: Mapping[str, Any]) -> None:
        with self._lock:
            self._out.write(orjson.dumps(document) + b"\n")
            self._out.flush()


def main() -> int:
    """Run what stdin asks for. Ends the process itself, without waiting for a download that no longer matters."""
    request = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_agent, daemon=True).start()
    _be_humble()
    lines = _Lines(sys.stdout.buffer)
    code = 0
    try:
        for image in _work(request, lines):
            lines.say({"image": image})
    except PullFailed as error:
        lines.say({"error": str(error), "reason": error.reason, "is_unreachable": error.is_unreachable})
        code = 1
    except LayerRefused as error:
        lines.say({"error": str(error), "reason": "ErrImagePull", "is_unreachable": False})
        code = 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        hint = "; free some space on it" if error.errno in (28, 122) else ""
        text = f"the image store in {request['root']} cannot be written: {error.strerror or error}{where}{hint}"
        lines.say({"error": text, "reason": "ErrImagePull", "is_unreachable": False})
        code = 1
    sys.stdout.buffer.flush()
    os._exit(code)


def _work(request: Mapping[str, Any], lines: _Lines) -> Iterator[StoredImage]:
    layout = Layout(Path(request["root"]))
    layout.ensure()
    wanted = request.get("platforms") or platforms(platform.machine())
    with in_use(layout):
        if request["do"] == "import":
            yield from archives.load(
                layout, Path(request["file"]), max_bytes=request["max_bytes"], platforms=wanted, progress=lines.progress
            )
            return
        settings = request["registry"]
        yield fetching.Fetch(
            layout,
            parse(request["reference"]),
            [Credential(**each) for each in request["credentials"]],
            RegistrySettings(
                host=settings["host"],
                mirrors=tuple(settings["mirrors"]),
                ca_file=Path(settings["ca_file"]) if settings["ca_file"] else None,
                plain_http=settings["plain_http"],
            )
            if settings
            else None,
            max_bytes=request["max_bytes"],
            platforms=wanted,
            progress=lines.progress,
        ).run()


@contextlib.contextmanager
def in_use(layout: Layout) -> Iterator[None]:
    """While a child works, nobody throws away what it works on: `Store` waits for this lock when it starts."""
    descriptor = os.open(layout.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _end_with_agent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


def _be_humble() -> None:
    """Containers come first, in time and, when memory runs out, in life. Names are asked for with less patience than by default."""
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:2")
    os.nice(5)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
