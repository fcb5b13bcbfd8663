#!/bin/sh
# Write a Debian root file system with Python to a tar file. The same package versions
# give the same bytes. Usage: bootstrap-base.sh SUITE PACKAGES OUT.tar (packages separated
# by commas). The mirror is Debian's default or the one that apt is configured with.
set -eu
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:?}"
# Leave out manuals and translations, which a container does not need. Keep copyright files,
# because the licenses require them. Remove this machine's host name and name servers, which
# mmdebstrap copies: the engine gives each container its own. Remove the bytecode of Debian's
# bytecode compiler: it depends on the environment, and only package installations read it.
exec mmdebstrap --quiet --variant=essential --mode=root \
    --include="$2" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
    --customize-hook='rm -rf "$1/usr/share/python3/debpython/__pycache__"' \
    "$1" "$3"
