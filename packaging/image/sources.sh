#!/bin/sh
# Prints Debian's package sources of this machine as lines of a sources.list, with the components the image needs: sources.sh [CODENAME].
# The firmware of the Pi and of its radio is in non-free-firmware.
set -eu
codename=${1:-bookworm}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
if [ ! -e "$keys" ]; then
    echo "there are no keys of Debian here: apt-get install debian-archive-keyring" >&2
    exit 2
fi
lines=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(ORIGIN)' 'Created-By: Packages' | sort -u |
    sed -n "s|^\([^ ]*\) \(${codename}[^ ]*\) Debian\$|deb [signed-by=$keys] \1 \2 main non-free-firmware|p")
if [ -z "$lines" ]; then
    echo "this machine's package sources have no Debian $codename (apt-get update may be due); the image is made of its packages" >&2
    exit 2
fi
echo "$lines"
