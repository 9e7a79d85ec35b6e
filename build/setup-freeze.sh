#!/usr/bin/env bash
# What `make freeze` needs beyond build/setup.sh: setup-freeze.sh ARCH. Needs root (sudo) only when a package is missing, or an emulator is off.
set -euo pipefail
arch=${1:?which architecture?}
native=$(dpkg --print-architecture)

missing=()
need() { # need PACKAGE TEST...: the package when the test fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
case $arch in
amd64) triplet=x86_64-linux-gnu emulator=x86_64 ;;
arm64) triplet=aarch64-linux-gnu emulator=aarch64 ;;
armhf) triplet=arm-linux-gnueabihf emulator=arm ;;
*) echo "ARCH=$arch: expected amd64, arm64 or armhf" >&2; exit 2 ;;
esac
need mmdebstrap command -v mmdebstrap
need dpkg-dev command -v dpkg-source
need patchelf command -v patchelf
need make command -v make
need binutils command -v readelf
[ "$arch" = "$native" ] || need "gcc-${triplet//_/-}" command -v "$triplet-gcc"
if [ "$arch" != "$native" ]; then
    need qemu-user-static command -v "qemu-$emulator-static"
    need binfmt-support command -v update-binfmts
fi

root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || { echo "make freeze needs root, and there is no sudo; run it as root" >&2; exit 1; }
    root=(sudo)
fi
if ((${#missing[@]})); then
    printf '\033[1m==>\033[0m installing system packages: %s\n' "${missing[*]}"
    log=$(mktemp)
    "${root[@]}" apt-get update -qq >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
fi
# mmdebstrap's apt, and gpgv for it, run as a user of their own.
mode=$(stat -c %a /dev/null)
if [ "$mode" != 666 ]; then
    printf '\033[1m==>\033[0m giving /dev/null back to every user; its mode was %s\n' "$mode"
    "${root[@]}" chmod 666 /dev/null
fi
# Another architecture's programs are run by the kernel, through an emulator that it was told of.
if [ "$arch" != "$native" ] && [ ! -e "/proc/sys/fs/binfmt_misc/qemu-$emulator" ]; then
    [ -e /proc/sys/fs/binfmt_misc/register ] || "${root[@]}" mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    "${root[@]}" update-binfmts --enable "qemu-$emulator"
fi
