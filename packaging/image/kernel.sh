#!/usr/bin/env bash
# kernel.sh BOARDS BOOT PYTHON: from unpacked packages (kernel, busybox, e2fsck) makes vmlinuz, modules.squashfs, initramfs.gz and the
# boards' device trees for the boot partition. Fails where a board's kernel could not reach its card.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
boards=$1 boot=$2 python=$3
PATH=$PATH:/usr/sbin:/sbin
lines() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

release=$(ls "$boards/lib/modules")
cp "$boards/boot/vmlinuz-$release" "$boot/vmlinuz"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

while read -r folder; do
    rm -rf "$boards/lib/modules/$release/kernel"/$folder # a pattern
done < <(lines "$here/modules-left-out.txt")
depmod -b "$boards" "$release" 2>"$scratch/depmod.log" || { cat "$scratch/depmod.log" >&2; exit 1; }
mksquashfs "$boards/lib/modules" "$boot/modules.squashfs" -comp zstd -b 256K -noappend -no-progress -quiet >"$scratch/squashfs.log"

tree=$scratch/initramfs
mkdir -p "$tree"/{bin,sbin,lib/modules}
cp "$boards/bin/busybox" "$tree/bin/"
cp "$boards/sbin/e2fsck.static" "$tree/sbin/e2fsck"
cp "$here"/initramfs/* "$tree/"
while read -r each; do
    modprobe -d "$boards" -S "$release" --show-depends "$each" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done < <(lines "$here/modules-early.txt") | awk '!seen[$0]++' >"$scratch/modules"
while read -r each; do
    cp "$each" "$tree/lib/modules/"
    basename "$each" >>"$tree/modules"
done <"$scratch/modules"
trees=()
while read -r dtb _; do
    cp "$boards"/usr/lib/linux-image-*/broadcom/"$dtb" "$boot/"
    trees+=("$boot/$dtb")
done < <(lines "$here/boards.txt")
"$python" "$here/drivers.py" "$boards/lib/modules/$release" "$tree/modules" "${trees[@]}"
find "$tree" -exec touch -h -d @0 {} +
(cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) | gzip -9n >"$boot/initramfs.gz"
