"""The verbs of samerun, for Invoke; `samerun.verbs` holds them, one module per subject."""

from pathlib import Path

from invoke.collection import Collection

from samerun.cli import (
    cloud,
    common,
    image,
    judging,
    machine,
    program,
    project,
    runs,
    training,
    transfer,
)
from samerun.host import numbers

common.work_in(Path(__file__).resolve().parent)
program.install()
numbers.install()
program.optional("train", "target", "")
program.optional("sync", "run", "")
for _verb in ("inspect", "push", "save"):
    program.optional(_verb, "image", "")

namespace = Collection(
    *(machine.setup, image.build, image.verify, image.inspect, project.audit, image.digest),
    *(transfer.push, transfer.pull, transfer.save, transfer.load),
    *(training.train, training.recipes, judging.reproduce, judging.compare),
    *(runs.runs, runs.show, runs.logs, runs.stop, runs.sync, runs.clean),
    *(cloud.cloud, cloud.ci),
    *(machine.doctor, project.lock, project.test),
)
