# Telling the person: on the screen and on the serial console, of which /dev/console is one only, and on the boot partition, which any
# computer can read.

option() { # option NAME: its value on the kernel's command line
    tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p" | tail -n 1
}

say() {
    for tty in $(cat "${SYS:-/sys}/class/tty/console/active"); do
        { echo "pinnace: $*" >"${DEV:-/dev}/$tty"; } 2>/dev/null || :
    done
}

tell_boot() { # tell_boot TEXT: the report, when the boot partition can be written
    mkdir -p /bootfs
    grep -q ' /bootfs ' /proc/mounts || mount -t vfat -o rw,noatime,umask=077 "$BOOTPART" /bootfs || return 0
    mount -o remount,rw /bootfs && printf 'Pinnace could not start.\r\n\r\n%s\r\n' "$1" >/bootfs/pinnace-report.txt
    sync
    umount /bootfs
}

stop() { # stop TEXT: say it, and try again after a while, since it may be a loose card
    say "$1"
    [ -z "${BOOTPART:-}" ] || tell_boot "$1"
    say "trying again in five minutes"
    sleep 300
    reboot -f
}
