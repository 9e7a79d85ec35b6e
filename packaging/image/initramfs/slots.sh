# Which root is started. State, in $BOOT on the data partition, one line each, replaced atomically:
#   active   a | b            the root that is known to be good (a, when missing)
#   trial    SLOT TRIES       a root that was just written, and how often it may still be started
#   failed   SLOT REASON      a trial that was given up; told to the person, then removed by `pinnace firstboot`
# A trial becomes active when its node was Ready (`pinnace upgrade --confirm`); without that it uses up its tries, and the former root
# is back. What is unreadable counts as missing.

slot_is_one() { case $1 in a | b) true ;; *) false ;; esac; }

slot_other() { if [ "$1" = a ]; then echo b; else echo a; fi; }

slot_write() { # slot_write NAME TEXT: whole and on the card, or not at all
    printf '%s\n' "$2" >"$BOOT/$1.new" && sync && mv "$BOOT/$1.new" "$BOOT/$1" && sync
}

slot_active() {
    slot=
    [ ! -r "$BOOT/active" ] || read -r slot _ <"$BOOT/active" || :
    if slot_is_one "$slot"; then echo "$slot"; else echo a; fi
}

slot_give_up() { # slot_give_up SLOT REASON: the trial is over
    slot_write failed "$1 $2" && rm -f "$BOOT/trial" && sync
}

# Prints the slot to start, and whether that is a trial: "b trial" or "a". One of the trial's tries is used up before it is started.
slot_choose() {
    slot= left=
    [ ! -r "$BOOT/trial" ] || read -r slot left _ <"$BOOT/trial" || :
    case $left in [0-9]) ;; *) slot= ;; esac
    if ! slot_is_one "$slot" || [ "$slot" = "$(slot_active)" ]; then # or it was kept, and the power cut before the trial was removed
        rm -f "$BOOT/trial"
    elif [ "$left" -gt 0 ] && slot_write trial "$slot $((left - 1))"; then
        echo "$slot trial"
        return
    else
        slot_give_up "$slot" "its node was not Ready in time, in none of its starts"
    fi
    slot_active
}
