"""What the tests of `invoke cloud` ask it for."""

import re
import subprocess

from samerun.host.cloud import vm, write
from samerun.host.cloud.request import CloudRequest, Location

DIGEST = "a" * 64
IMAGE = f"ghcr.io/you/samerun@sha256:{DIGEST}"
RENDER = write.RENDER


def asked(engine, **changes):
    given = {"image": IMAGE, "target": "digits", "name": "demo", "commit": "c" * 40}
    given |= {"output": Location(kind="s3", name="runs")} if engine == "sky" else {}
    given |= {"source": "https://host/kit.git"} if engine == "vm" else {}
    return CloudRequest(engine=engine, **{**given, **changes})


def rendered(engine, **changes):
    return RENDER[engine](asked(engine, **changes))


def expanded(text, variables):
    """Return *text* as Kubernetes gives it to a container: $(NAME) replaced, $$ as one dollar."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_]\w*)\)",
        lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]),
        text,
    )


def arguments_on_the_vm(script):
    """Run the script with `invoke` that prints what it gets."""
    lines = script.replace(f"exec {vm.VENV}/bin/invoke", "printf '%s\\0'")
    kept = "\n".join(x for x in lines.split("\n") if not x.startswith(("cd ", "mkdir ")))
    done = subprocess.run(["sh", "-c", kept], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]
