#!/usr/bin/env bash
# Sets up a checkout on Debian 12, Ubuntu or Raspberry Pi OS: system packages that are missing, a virtual environment, the extensions.
# Safe to run again; says what it does; needs root (or sudo) only when a system package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

missing=()
need() { # need PACKAGE TEST...: the package when the test fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
python=${PYTHON:-python3}
need python3 command -v "$python"
need python3-venv "$python" -c 'import ensurepip, venv'
need python3-dev "$python" -c 'import os, sysconfig; assert os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))'
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdlib.h
need binutils command -v objdump
need openssl command -v openssl
need mosquitto bash -c 'command -v mosquitto || test -x /usr/sbin/mosquitto'
need iproute2 bash -c 'command -v ip || test -x /usr/sbin/ip'
need procps command -v pgrep
# Pods: the OCI runtime, the network plugins and what they call; then what only the tests need.
need crun command -v crun
need containernetworking-plugins test -x /usr/lib/cni/bridge
need iptables bash -c 'command -v iptables || test -x /usr/sbin/iptables'
need mount command -v mount
need musl-tools command -v musl-gcc
need busybox-static bash -c 'file=$(command -v busybox) && ! ldd "$file"'
need containerd command -v containerd
need runc bash -c 'command -v runc || test -x /usr/sbin/runc'
need docker-registry command -v docker-registry
need dbus-daemon command -v dbus-daemon
command -v kubectl >/dev/null 2>&1 || missing+=(kubernetes-client)

if ((${#missing[@]})); then
    root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || { echo "this needs root and there is no sudo. As root: apt-get install ${missing[*]}; then make again" >&2; exit 1; }
        root=(sudo)
    fi
    say "installing system packages: ${missing[*]}"
    # A distribution's mosquitto would start a service of its own; ours are started where they are needed.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$policy" ] && printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null && "${root[@]}" chmod 755 "$policy"; then
        made=1
    fi
    trap '[ -z "$made" ] || "${root[@]}" rm -f "$policy"' EXIT
    log=$(mktemp)
    "${root[@]}" apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pinnace needs Python 3.11 or newer; $("$python" --version) is too old (set PYTHON=...)" >&2; exit 1; }

# Programs of a virtual environment know where it is: after a move it is made anew.
if ! .venv/bin/python -c '' 2>/dev/null || ! grep -qsF "$(pwd -P)/.venv/bin/python" .venv/bin/pip; then
    say "making the virtual environment .venv"
    "$python" -m venv --clear .venv
fi
say "installing Python packages and compiling the extensions (about a minute)"
pip=(.venv/bin/python -m pip --disable-pip-version-check install -q)
"${pip[@]}" 'setuptools>=77' 'cython>=3.1'
"${pip[@]}" --no-build-isolation -e '.[cloud,dev]'
.venv/bin/python - <<'CHECK'
from pinnace.ext import envelope_c, frame_c, metacache_c, twindiff_c

assert all(each.__file__.endswith(".so") for each in (envelope_c, frame_c, metacache_c, twindiff_c)), "an extension was not compiled"
CHECK
core/pods/oci/shim/pinnace-shim >/dev/null 2>&1 || [ $? = 2 ] || { echo "core/pods/oci/shim/pinnace-shim was not compiled, or does not run here" >&2; exit 1; }
say "ready: make demo, make test"
