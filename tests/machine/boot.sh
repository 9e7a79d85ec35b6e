#!/usr/bin/env bash
# Boots an emulated machine with Debian's kernel, systemd and pure cgroup v2, this machine's files as a root it cannot change, and runs a
# command in it. Usage: boot.sh COMMAND ARGUMENT...; prints what the command prints and exits as it does. Nothing outside is written but
# .build/machine. For what this machine's kernel lacks: NFS, cgroup v2, systemd's inhibitors.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
place=$root/.build/machine
seconds=${MACHINE_SECONDS:-900}
mkdir -p "$place"
cd "$place"

kernel() { # fetch and unpack Debian's kernel, once; it is not installed
    [ -e vmlinuz ] && return
    apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-get update -qq
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
    rm -rf kernel && mkdir kernel
    (cd kernel && apt-get download -q "$package" >/dev/null && dpkg-deb -x ./*.deb . && rm -f ./*.deb)
    depmod -b kernel "$(ls kernel/lib/modules)"
    cp kernel/boot/vmlinuz-* vmlinuz.new && mv vmlinuz.new vmlinuz
}

initramfs() { # busybox, the modules that find the root, and what comes before systemd
    local version modules tree
    version=$(ls kernel/lib/modules)
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,lib/modules,proc,sys,dev,host,upper,root}
    cp "$(command -v busybox)" "$tree/bin/busybox"
    modules=$(for each in virtio_pci 9pnet_virtio 9p overlay; do
        modprobe -d kernel -S "$version" --show-depends "$each" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++')
    : >"$tree/modules"
    for each in $modules; do
        cp "$each" "$tree/lib/modules/"
        basename "$each" >>"$tree/modules"
    done
    cp "$root/tests/machine/init" "$tree/init"
    chmod 755 "$tree/init"
    (cd "$tree" && find . | cpio -o -H newc --quiet) | gzip -1 >initramfs.gz
    rm -rf "$tree"
}

missing=()
for each in qemu-system-x86_64:qemu-system-x86 cpio:cpio depmod:kmod busybox:busybox-static systemctl:systemd dbus-daemon:dbus \
    mount.nfs:nfs-common exportfs:nfs-kernel-server; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${each%%:*}" >/dev/null || missing+=("${each#*:}")
done
if ((${#missing[@]})); then
    ((EUID == 0)) || { echo "an emulated machine needs, as root: apt-get install ${missing[*]}" >&2; exit 2; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$place/apt.log" 2>&1 || { cat "$place/apt.log" >&2; exit 2; }
fi
kernel
initramfs
printf '#!/bin/sh\ncd %q\nexport HOME=/root PATH=%q CI=%q PINNACE_MACHINE=1\nexec' "$root" "$PATH" "${CI:-}" >command.sh
printf ' %q' "$@" >>command.sh
echo >>command.sh
printf '%s\n' "$place" >place

log=serial.log
: >"$log"
timeout --foreground "$seconds" qemu-system-x86_64 -machine q35 -cpu max -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
    -kernel vmlinuz -initrd initramfs.gz \
    -append "console=ttyS0 quiet loglevel=4 systemd.show_status=0 systemd.mask=systemd-journald.socket systemd.log_target=null systemd.unified_cgroup_hierarchy=1 machine.place=$place" \
    -fsdev local,id=files,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=files,mount_tag=files \
    -device virtio-rng-pci -serial stdio -monitor none </dev/null 2>&1 | tr -d '\r' | tee "$log" | sed -u -e '/^MACHINE-EXIT /d' -e '/^Powering off/d' -e '/reboot: Power down/d'
code=$(sed -n 's/^MACHINE-EXIT \([0-9]*\)$/\1/p' "$log" | tail -1)
[ -n "$code" ] || { echo "the emulated machine did not finish; its console: $place/$log" >&2; exit 1; }
exit "$code"
