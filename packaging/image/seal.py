"""Seals a root: `python packaging/image/seal.py ROOT.squashfs --version VERSION` (pinnace.core.appliance.rootfile)."""

from __future__ import annotations

import argparse
from pathlib import Path

from pinnace.core.appliance.rootfile import seal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--version", required=True)
    args = parser.parse_args()
    found = seal(args.root, args.version)
    print(f"{args.root.name}: {found.size / 1e6:.1f} MB, sha256 {found.sha256}")


if __name__ == "__main__":
    main()
