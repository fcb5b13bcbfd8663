"""Commands that write files for training in the cloud and for CI services."""

from pathlib import Path
from typing import Annotated

from invoke.context import Context

from samerun.cli.common import checkout, say
from samerun.cli.verb import verb
from samerun.host.cloud.options import CloudOptions


@verb()
def cloud(context: Context, options: CloudOptions) -> None:
    """
    Write a file that runs a training in the cloud, in the image by its digest.

    Examples:
        invoke cloud sky --gpus A100:8 --spot --output s3://bucket/runs
        invoke cloud k8s --gpus 1 --data pvc://photos -- --epochs 5
        invoke cloud k8s --gpus H100:8 --nodes 2 --launch
        invoke cloud vm --gpus L4

    The W&B key is in no file; it is a secret of the platform (docs/cloud.md).
    """
    from samerun.host.cloud import write

    request = write.read(options, checkout())
    path = write.write(request, options.file, checkout())
    say(str(path))
    if options.launch:
        write.launch(request, path, say)


@verb()
def ci(
    context: Context,
    service: Annotated[str, "github or gitlab"],
    registry: Annotated[
        str | None, "registry for images, HOST/NAME; default: the service's own"
    ] = None,
    file: Annotated[
        str | None, "the file to write; default: the service's path for workflows"
    ] = None,
) -> None:
    """
    Write a CI workflow that builds, tests on the CPU, pushes by digest and attests.

    At its end, the workflow prints the image's digest for `invoke train --image`.
    """
    from samerun.host.develop import workflow

    say(str(workflow.write(service, registry, Path(file) if file else None, checkout())))
