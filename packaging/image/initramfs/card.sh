# The card: finding it among the disks, and giving its last partition what the image did not know of.

card_signature() { # the MBR's signature (bytes 440-443) of a disk or file, as eight digits
    dd if="$1" bs=1 skip=440 count=4 2>/dev/null | hexdump -v -e '1/4 "%08x"'
}

card_find() { # card_find SIGNATURE: the name below /sys/block of the disk that has it
    for each in "${SYS:-/sys}"/block/*; do
        name=${each##*/}
        case $name in loop* | ram* | zram*) continue ;; esac
        if [ -b "${DEV:-/dev}/$name" ] && [ "$(card_signature "${DEV:-/dev}/$name")" = "$1" ]; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

card_entry() { # card_entry DISK: first sector and length of the fourth partition, from its MBR
    dd if="$1" bs=1 skip=502 count=8 2>/dev/null | hexdump -v -e '1/4 "%u "'
}

# card_room DISK SECTORS: what is to be done about the last partition of a disk so long. Prints one of
#   ok          it ends where the disk ends, or nearly
#   grow N      it could have N sectors
#   small N     the disk lacks N sectors of what the image needs
card_room() {
    # shellcheck disable=SC2046 # two numbers
    set -- "$2" $(card_entry "$1")
    missing=$(($2 + $3 - $1))
    whole=$(((($1 < 4294967295 ? $1 : 4294967295) - $2) / 2048 * 2048))
    if [ "$missing" -gt 0 ]; then
        echo "small $missing"
    elif [ $((whole - $3)) -ge 32768 ]; then
        echo "grow $whole"
    else
        echo ok
    fi
}

card_is_filled() { # card_is_filled PARTITION SECTORS: does its ext4 reach to the end of a partition so long, or nearly (Linux, fs/ext4/ext4.h)
    blocks=$(dd if="$1" bs=1 skip=1028 count=4 2>/dev/null | hexdump -v -e '1/4 "%u"')
    size=$(dd if="$1" bs=1 skip=1048 count=4 2>/dev/null | hexdump -v -e '1/4 "%u"')
    [ $(($2 - (blocks << (size + 1)))) -lt 32768 ]
}

card_grow() { # card_grow DISK SECTORS: the length of the fourth partition, in its MBR: one sector, written at once
    le=$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($2 & 255)) $(($2 >> 8 & 255)) $(($2 >> 16 & 255)) $(($2 >> 24 & 255)))
    # shellcheck disable=SC2059 # the bytes are the format
    printf "$le" | dd of="$1" bs=1 seek=506 conv=notrunc 2>/dev/null
    sync
}
