"""Modules that wait until they are used, each case in a fresh interpreter: what pytest has loaded is loaded already."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def fresh(script: str, **environment: str) -> str:
    """What the script prints."""
    given = [sys.executable, "-c", "from pinnace.core.base.deferred import RARE, defer\nimport sys\n" + textwrap.dedent(script)]
    done = subprocess.run(given, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("statement", ["import urllib.request", "from urllib import request", "import urllib.request as other"])
def test_importing_runs_nothing(statement: str) -> None:
    assert fresh(f"defer('urllib.request')\n{statement}\nprint('http.client' in sys.modules)") == "False"


@pytest.mark.parametrize(
    "use", ["import urllib.request; urllib.request.getproxies()", "from urllib.request import getproxies", "from urllib.request import *"]
)
def test_using_runs_it(use: str) -> None:
    assert fresh(f"defer('urllib.request')\n{use}\nprint('http.client' in sys.modules, type(sys.modules['urllib.request']))") == (
        "True <class 'module'>"
    )


def test_a_proxy_is_found_and_used() -> None:
    script = """
        defer(*RARE)
        import threading, urllib.request
        from websockets.proxy import get_proxy
        from websockets.uri import parse_uri
        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        def answer():
            each, _ = listener.accept()
            print(each.recv(1000).split()[1].decode())
            each.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nthrough")
            each.close()
        threading.Thread(target=answer).start()
        import os
        os.environ["http_proxy"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(get_proxy(parse_uri("ws://cloud.invalid/")) == os.environ["http_proxy"])
        print(urllib.request.urlopen("http://cloud.invalid/x", timeout=20).read().decode())
    """
    assert fresh(script).split() == ["True", "http://cloud.invalid/x", "through"]


def test_what_ran_already_stays_and_twice_is_once() -> None:
    script = """
        import bz2
        defer("bz2", "lzma")
        first = sys.modules["lzma"]
        defer("bz2", "lzma", "no_such_module")
        print(sys.modules["bz2"] is bz2, "_bz2" in sys.modules, sys.modules["lzma"] is first, "_lzma" in sys.modules)
        import shutil
        print("_lzma" in sys.modules, "xztar" in dict(shutil.get_archive_formats()))
    """
    assert fresh(script).split() == ["True", "True", "True", "False", "False", "True"]


def test_what_is_missing_is_missing() -> None:
    assert fresh("defer('lzma')\nimport lzma\nprint(hasattr(lzma, 'no_such_thing'), lzma.open.__module__)") == "False lzma"


def test_all_threads_get_the_whole_module() -> None:
    script = """
        defer("urllib.request")
        import urllib.request
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as threads:
            print(all(threads.map(lambda _: callable(urllib.request.url2pathname), range(8))))
    """
    assert fresh(script) == "True"
