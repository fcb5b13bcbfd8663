#!/bin/sh
# Run COMMAND, which installs packages into /opt/venv, then make its result small
# and the same on every machine: no file that training never loads, bytecode that
# does not depend on file times, every time stamp at the epoch.
set -eu

marker=/tmp/before
: > "$marker"
sleep 0.01

# A company proxy's certificates, if the host has any, for this command only.
if [ -s /run/secrets/ca ]; then
    export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca
fi

"$@"

new() { find /opt/venv -cnewer "$marker" "$@"; }

# Static libraries and headers serve a compiler, which the image does not have;
# test suites of the packages are imported by nothing but themselves.
new -type f -name '*.a' -delete
new -type d \( -name include -o -name tests \) -path '*/site-packages/*' -prune -exec rm -rf {} +

new -type f -name '*.py' -print0 |
    xargs -0 -r -P "$(nproc)" -n 400 /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash || true

find /opt -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
