"""Fetch or import images as the JSON object on stdin says. The edge starts this itself; it is of no use to people."""

from __future__ import annotations

import argparse

SUMMARY = "fetch images for the edge (internal)"
IS_INTERNAL = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    from pinnace.core.pods.images import child

    del args
    return child.main()
