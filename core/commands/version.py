"""Print the version of Pinnace and of what it is built on."""

from __future__ import annotations

import argparse
import platform
import ssl
import sys

from pinnace.core.base.version import VERSION

SUMMARY = "what this build is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def facts() -> dict[str, str]:
    """Name → version of this build's parts."""
    from pinnace.ext import _build

    return {
        "pinnace": VERSION,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "tls": ssl.OPENSSL_VERSION,
        "hot paths": "reference" if _build.PURE else "compiled",
        "frozen": "yes" if getattr(sys, "frozen", False) else "no",
    }


def run(args: argparse.Namespace) -> int:
    if args.json:
        import orjson

        print(orjson.dumps(facts()).decode())
    else:
        for name, value in facts().items():
            print(f"{name:<10} {value}")
    return 0
