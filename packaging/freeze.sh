#!/usr/bin/env bash
# Freezes the edge for this machine's architecture into dist/pinnace and lets the result test itself: PyInstaller also exits 0 on a
# tree that cannot run.
set -euo pipefail
cd "$(dirname "$0")/.."
log=.build/freeze.log
mkdir -p .build
.venv/bin/python -m PyInstaller --noconfirm --log-level WARN --workpath .build/pyinstaller --distpath dist packaging/edge.spec >"$log" 2>&1 ||
    { cat "$log" >&2; exit 1; }
# From an empty folder and with an empty environment, so that nothing of the checkout can help.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$OLDPWD/dist/pinnace/pinnace" selftest)
echo "and in the whole system:"
.venv/bin/python -m pytest -q -p no:cacheprovider tests/frozen
printf 'dist/pinnace: %s, %s files\n' "$(du -sh --apparent-size dist/pinnace | cut -f1)" "$(find dist/pinnace -type f | wc -l)"
