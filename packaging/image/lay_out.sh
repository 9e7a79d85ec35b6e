#!/usr/bin/env bash
# lay_out.sh ROOT TREE: makes a root of Debian's packages the appliance's: takes away what nobody needs on it, adds Pinnace and the files of
# this folder. Prints Pinnace's version.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$1 tree=$2

version=$(sed -n 's/^ "version": "\(.*\)",$/\1/p' "$tree/lib/release.json")
mkdir -p "$root/boot/firmware" "$root/data" "$root/usr/lib/modules"
QEMU_LD_PREFIX=$root "$tree/pinnace" install --root "$root" >&2

rm -rf "$root"/usr/share/{perl,perl5,bug,lintian,info,zoneinfo/right,zoneinfo/posix} "$root"/usr/lib/aarch64-linux-gnu/perl* "$root"/usr/bin/perl*
rm -rf "$root"/var/{cache,lib/apt,lib/ucf,log}/* "$root"/usr/lib/aarch64-linux-gnu/gconv "$root"/var/lib/dpkg/info "$root"/usr/lib/udev/hwdb.d
rm -rf "$root"/etc/init.d "$root"/etc/rc?.d "$root"/etc/cron* "$root"/boot/firmware/*
cp -r --preserve=mode "$here"/files/. "$root/"
# What the card keeps, and a read-only root cannot.
: >"$root/etc/machine-id"
for each in hostname kubeedge; do
    rm -rf "${root:?}/etc/$each"
    ln -s "/data/etc/$each" "$root/etc/$each"
done
ln -s /data/etc/timesyncd.conf "$root/etc/systemd/timesyncd.conf.d/wished.conf"
ln -sf ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id"
passwd --root "$root" --lock root >/dev/null

systemctl --root "$root" --quiet enable systemd-networkd systemd-resolved systemd-timesyncd ssh pinnace-firstboot pinnace-confirm \
    pinnace-grow pinnace-mapper-gpio pinnace-clock.timer pinnace-trial.timer
systemctl --root "$root" --quiet disable systemd-networkd-wait-online wpa_supplicant e2scrub_reap e2scrub_all.timer 2>/dev/null || :
# No log-in on a console: root has no password. And what a root that never changes, or this board, has no use for.
systemctl --root "$root" --quiet mask getty@ serial-getty@ getty-static systemd-firstboot systemd-machine-id-commit systemd-update-utmp \
    systemd-update-utmp-runlevel systemd-pstore ldconfig modprobe@configfs modprobe@dm_mod modprobe@drm modprobe@efi_pstore modprobe@fuse \
    sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount proc-sys-fs-binfmt_misc.automount \
    systemd-binfmt systemd-hwdb-update systemd-journal-catalog-update systemd-ask-password-console.path systemd-ask-password-wall.path
# Nothing is to be brought up to date at the first start: it is all done.
touch "$root/usr" "$root/etc/.updated" "$root/var/.updated"
touch "$root/usr/lib/clock-epoch" # the floor of the clock
echo "$version"
