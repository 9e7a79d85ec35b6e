"""Look for what a node needs and for what is wrong with this machine: kernel and cgroups, clock, power and temperature, card and disk,
ports, container runtime, certificate, the way to the cloud, the edge itself. Each fault comes with the line to type.

Exit code: 0 all well, 1 something to watch, 2 something is wrong, 3 edgecore.yaml may be read by root only. Nothing is changed.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from pinnace.core.base.errors import ConfigError, RefusedError

SUMMARY = "what is wrong with this machine, and the line to type"
CONFIG = Path("/etc/kubeedge/config/edgecore.yaml")
_LABELS = {-1: "--", 0: "ok", 1: "WATCH", 2: "WRONG"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=CONFIG, metavar="PATH", help="edgecore.yaml (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--offline", action="store_true", help="leave the cloud out")


def run(args: argparse.Namespace) -> int:
    from pinnace.core.base.settings.loader import load
    from pinnace.core.doctor.examination import MATTERS, examine
    from pinnace.core.doctor.finding import Finding, Level, worst
    from pinnace.core.doctor.subject import Subject
    from pinnace.core.settings import EdgeCoreSettings

    findings: list[Finding] = []
    settings, config = EdgeCoreSettings(), None
    try:
        config = args.config if args.config.exists() else None
        if config is not None:
            settings = load(config, EdgeCoreSettings)
    except PermissionError as error:
        raise _only_root(args.config) from error
    except ConfigError as error:
        if isinstance(error.__cause__, PermissionError):
            raise _only_root(args.config) from error
        findings.append(Finding("configuration", Level.ERROR, f"{error}; the rest goes by KubeEdge's defaults", f"nano {config}"))
    matters = [each for each in MATTERS if not (args.offline and each == "cloud")]
    findings += examine(Subject(settings, config=config), matters)
    gravest = worst(findings)
    if args.json:
        import orjson

        entries = [{**dataclasses.asdict(each), "level": each.level.name.lower()} for each in findings]
        print(orjson.dumps({"ok": gravest <= Level.OK, "findings": entries}).decode())
    else:
        for each in findings:
            print(f"{_LABELS[each.level]:<6} {each.matter:<13} {each.text}")
            for line in each.remedy.splitlines() if each.level is not Level.OK else ():
                print(f"{'':<21}$ {line}")
    return max(int(gravest), 0)


def _only_root(config: Path) -> RefusedError:
    return RefusedError(f"{config} may be read by root only, and all else goes by it; use sudo")
