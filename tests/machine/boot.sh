#!/usr/bin/env bash
# Boots an emulated machine with Debian's kernel, systemd and pure cgroup v2, this machine's files as a root it cannot change, and runs a
# command in it. Usage: boot.sh COMMAND ARGUMENT...; prints what the command prints and exits as it does. Nothing outside is written but
# .build/machine. For what this machine's kernel lacks: NFS, cgroup v2, systemd's inhibitors. The emulated machine ends with this script,
# after MACHINE_SECONDS (900) at the latest, and when its console was silent for MACHINE_SILENCE seconds (300).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
place=$root/.build/machine
seconds=${MACHINE_SECONDS:-900}
silence=${MACHINE_SILENCE:-300}
mkdir -p "$place"
cd "$place"

kernel() { # fetch and unpack Debian's kernel, once; it is not installed
    [ -e vmlinuz ] && return
    local package
    for attempt in 1 2; do # the second time with fresh lists: they may be missing, or too old for what is on the server
        ((attempt == 1)) || apt-get update -qq
        package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -1)
        rm -rf kernel && mkdir kernel
        [ -n "$package" ] && (cd kernel && apt-get download -q "$package" >../apt.log 2>&1) && break
    done
    (cd kernel && dpkg-deb -x ./*.deb . && rm -f ./*.deb) || { cat apt.log; echo "the kernel could not be fetched"; exit 2; } >&2
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
    mount.nfs:nfs-common exportfs:nfs-kernel-server rpcbind:rpcbind; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${each%%:*}" >/dev/null || missing+=("${each#*:}")
done
if ((${#missing[@]})); then
    ((EUID == 0)) || { echo "an emulated machine needs, as root: apt-get install ${missing[*]}" >&2; exit 2; }
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
    "${install[@]}" >apt.log 2>&1 || { apt-get update -qq && "${install[@]}" >apt.log 2>&1; } || { cat apt.log >&2; exit 2; }
fi
kernel
initramfs
# Containers cannot have their layers on the root, which is an overlay itself.
printf '#!/bin/sh\nmkdir /run/tmp && mount -t tmpfs -o mode=1777 tmp /run/tmp\ncd %q\nexport HOME=/root PATH=%q CI=%q TMPDIR=/run/tmp PINNACE_MACHINE=1\nexec' \
    "$root" "$PATH" "${CI:-}" >command.sh
printf ' %q' "$@" >>command.sh
echo >>command.sh
printf '%s\n' "$place" >place

log=serial.log
: >"$log"
qemu-system-x86_64 -machine q35 -cpu max -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
    -kernel vmlinuz -initrd initramfs.gz \
    -append "console=ttyS0 quiet loglevel=4 mitigations=off systemd.show_status=0 systemd.mask=systemd-journald.socket systemd.log_target=null systemd.unified_cgroup_hierarchy=1 machine.place=$place" \
    -fsdev local,id=files,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=files,mount_tag=files \
    -device virtio-rng-pci -serial "file:$log" -monitor none </dev/null &
qemu=$!
trap 'kill -KILL $qemu 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP
tail -c +1 -s 0.2 -f --pid=$qemu "$log" | sed -u -e 's/\r$//' -e '/^MACHINE-/d' -e '/^Powering off/d' -e '/reboot: Power down/d' &
shown=$!

why="it ended too early"
heard=$SECONDS size=0
while kill -0 $qemu 2>/dev/null; do
    sleep 0.5
    now=$(stat -c %s "$log")
    ((now == size)) || heard=$SECONDS size=$now
    if ((SECONDS - heard >= silence)); then why="its console was silent for $silence s" && break; fi
    if ((SECONDS >= seconds)); then why="it was not done after $seconds s" && break; fi
done
kill -KILL $qemu 2>/dev/null || true
wait $qemu $shown 2>/dev/null || true
code=$(sed -n 's/^MACHINE-EXIT \([0-9]*\)\r*$/\1/p' "$log" | tail -1)
if [ -z "$code" ]; then
    grep -q '^MACHINE-UP' "$log" || why="$why, before it ran anything"
    echo "the emulated machine did not finish: $why. Its console: $place/$log; the last of it:" >&2
    tail -n 15 "$log" >&2
    exit 1
fi
echo "the emulated machine was up for $SECONDS s"
exit "$code"
