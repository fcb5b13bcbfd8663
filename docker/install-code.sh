#!/bin/sh
# Install the package next to its dependencies. Make every Python process in the image load
# the hook that tags W&B runs (see samerun/train/hook.py). Write what the image was built from.
set -eu
code=/opt/samerun/code
mkdir -p "$code/samerun"
(cd /run/samerun && find . -type f ! -path '*/__pycache__/*' -exec cp --parents {} "$code/samerun" \;)
chmod -R u=rwX,go=rX "$code"
/opt/venv/bin/python -ISm compileall -q --invalidation-mode unchecked-hash "$code"
site=$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\nimport samerun.train.hook\n' "$code" > "$site/samerun.pth"
printf '{"base": "%s", "origin": "%s", "lock": "%s"}\n' "${BASE_REFERENCE:-}" "${BASE_ORIGIN:-}" \
    "$(sha256sum /run/uv.lock | cut -d ' ' -f 1)" > /opt/samerun/build.json
# Create the folder here: WORKDIR would give it the time of the build.
mkdir -p /output
touch -d "@$SOURCE_DATE_EPOCH" /output
find /opt -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
