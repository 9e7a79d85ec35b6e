#!/usr/bin/env bash
# Makes the image for a Raspberry Pi in dist/image: pinnace-VERSION-pi.img.xz to flash, and pinnace-VERSION.root for `pinnace upgrade`.
# Root file systems of Debian's packages are kept in .build/image and made anew when their list or the sources have changed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=$top/.build/image
out=$top/dist/image
python=$top/.venv/bin/python
tree=${PINNACE_TREE:-$top/dist/arm64/pinnace}
mkdir -p "$work" "$out"
cd "$work"

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { echo "make image: $*" >&2; exit 2; }
lines() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"; }

((EUID == 0)) || fail "needs root: file systems with root's files are made"
missing=()
for each in mmdebstrap:mmdebstrap arch-test:arch-test genimage:genimage mksquashfs:squashfs-tools mkfs.vfat:dosfstools mcopy:mtools mke2fs:e2fsprogs \
    qemu-aarch64-static:qemu-user-static update-binfmts:binfmt-support depmod:kmod systemctl:systemd cpio:cpio xz:xz-utils; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${each%%:*}" >/dev/null || missing+=("${each#*:}")
done
if ((${#missing[@]})); then
    say "installing ${missing[*]}"
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
    "${install[@]}" >apt.log 2>&1 || { apt-get update -qq && "${install[@]}" >apt.log 2>&1; } || { cat apt.log >&2; exit 2; }
fi
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
[ -x "$tree/pinnace" ] || fail "there is no frozen tree for arm64 in $tree; make freeze ARCH=arm64"

debian() { # debian NAME VARIANT PACKAGE...: a root of Debian's packages as NAME.tar, when it is not there already
    local name=$1 variant=$2 wanted
    shift 2
    "$here/sources.sh" >sources.list
    wanted=$(printf '%s\n' "$variant" "$@" | cat - sources.list | sha256sum | cut -c1-16)
    [ -e "$name.tar" ] && [ "$(cat "$name.made" 2>/dev/null)" = "$wanted" ] && return
    say "Debian's packages for $name (a few minutes, once)"
    rm -f "$name.tar" "$name.made"
    mmdebstrap --mode=root --architectures=arm64 --variant="$variant" --include="$(IFS=,; echo "$*")" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' --aptopt='APT::Install-Recommends "false"' \
        bookworm "$name.tar" sources.list >"$name.log" 2>&1 || { tail -n 20 "$name.log" >&2; fail "mmdebstrap failed"; }
    echo "$wanted" >"$name.made"
}

mapfile -t packages < <(lines "$here/packages.txt")
debian system essential "${packages[@]}"
debian boards extract linux-image-arm64 raspi-firmware busybox-static e2fsck-static
rm -rf system boards boot data stage
mkdir system boards boot data stage
tar -C system -xf system.tar --exclude=./dev/*
tar -C boards -xf boards.tar --exclude=./dev/*

version=$("$here/lay_out.sh" "$work/system" "$tree")
say "the root of Pinnace $version"
mksquashfs system root.squashfs -comp zstd -Xcompression-level "${SQUASHFS_LEVEL:-15}" -b 256K -noappend -no-progress -quiet \
    -e system/boot/firmware/* >squashfs.log
"$python" "$here/seal.py" root.squashfs --version "$version"

say "kernel, modules, initramfs, boot partition"
"$here/kernel.sh" "$work/boards" "$work/boot" "$python"
signature=$(sha256sum root.squashfs | cut -c1-8)
while read -r _ firmware; do
    for each in $firmware; do cp boards/usr/lib/raspi-firmware/"$each" boot/; done
done < <(lines "$here/boards.txt")
cp "$here"/boot/* boot/
cp boards/usr/share/doc/raspi-firmware/copyright boot/LICENCE-firmware.txt
sed -i "s/@SIGNATURE@/$signature/" boot/cmdline.txt
sed -i 's/$/\r/' boot/pinnace.yaml # every editor shows its lines then

sed "s/@SIGNATURE@/$signature/" "$here/genimage.cfg" >genimage.cfg
mkdir -p stage/boot stage/data
cp -r boot/. stage/boot/
rm -rf genimage.tmp images
genimage --config genimage.cfg --rootpath stage --inputpath "$work" --outputpath images --tmppath genimage.tmp >genimage.log 2>&1 ||
    { tail -n 20 genimage.log >&2; fail "genimage failed"; }
name=pinnace-$version
rm -f "$out/$name-pi.img.xz" # of an image before this one
mv images/pinnace.img "$out/$name-pi.img"
cp root.squashfs "$out/$name.root"
if [ -z "${IMAGE_PLAIN:-}" ]; then
    say "packing"
    xz -T0 -"${XZ_LEVEL:-3}" --keep --force "$out/$name-pi.img"
fi
(cd "$out" && sha256sum "$name"* >SHA256SUMS)
size() { stat -c %s "$1" | awk '{printf "%.1f MB", $1 / 1e6}'; }
for each in "$out/$name"*; do echo "${each#"$top"/}: $(size "$each")"; done
if [ -e "$out/$name-pi.img.xz" ] && (($(stat -c %s "$out/$name-pi.img.xz") > 400000000)); then
    fail "the image has more than 400 MB"
fi
