#!/bin/sh
# inside.sh ROOT FOLDER COMMAND...: run a command in ROOT with FOLDER as /build. In a mount namespace of its own (unshare), so that nothing of it
# is left behind however it ends.
set -eu
root=$1 folder=$2
shift 2
mkdir -p "$root/build"
mount --bind "$folder" "$root/build"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind /dev "$root/dev"
exec chroot "$root" /usr/bin/env -C /build "$@"
