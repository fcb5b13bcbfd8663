#!/bin/sh
# Make a Debian root file system with Python as a tar: the same bytes from the same
# package versions. Usage: bootstrap-base.sh SUITE PACKAGES OUT.tar (comma-separated).
# Names no mirror: mmdebstrap takes Debian's own, or what apt is configured with.
set -eu
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:?}"
# No manuals and no translations: nobody reads them in a container. Copyright files
# stay, the licenses ask for it. mmdebstrap copies this machine's name and name servers;
# the engine gives each container its own. Bytecode that Debian's own compiler left of
# itself depends on the environment that it ran in; only package installations read it.
exec mmdebstrap --quiet --variant=essential --mode=root \
    --include="$2" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
    --customize-hook='rm -rf "$1/usr/share/python3/debpython/__pycache__"' \
    "$1" "$3"
