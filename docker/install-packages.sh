#!/bin/sh
# Run COMMAND, which installs packages into /opt/venv. Then make the result small and
# identical on every machine: remove files that training never loads, compile bytecode
# that does not depend on file times, and set every timestamp to the epoch.
set -eu

marker=/tmp/before
: > "$marker"
sleep 0.01

# Certificates of a company proxy, if the host has any, for this command only.
if [ -s /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi

"$@"

new() { find /opt/venv -cnewer "$marker" "$@"; }

# In -path, * also matches slashes, so a pattern that ends in /* empties the whole folder.
grep -v '^#' /run/left-out | grep . | while read -r pattern; do
    new ! -type d -path "$pattern" -delete
done
new -type d -empty -delete

# Use a fixed order and an interpreter without `site`: bytecode depends on what the process
# has loaded before, and .pth files import packages at every start.
new -type f -name '*.py' -print0 | sort -z |
    xargs -0 -r -P "$(nproc)" -n 400 /opt/venv/bin/python -ISm compileall -q --invalidation-mode unchecked-hash || true

find /opt -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
