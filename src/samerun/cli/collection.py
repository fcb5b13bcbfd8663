"""All commands as one collection, for `tasks.py` and for the command `samerun`."""

from invoke.collection import Collection

from samerun.cli import cloud, image, judging, machine, output, project, runs, training, transfer
from samerun.cli.program import extend_invoke

extend_invoke()
output.check()
namespace = Collection(
    *(machine.setup, image.build, image.verify, image.inspect, project.audit, image.digest),
    *(transfer.push, transfer.pull, transfer.save, transfer.load),
    *(training.train, training.recipes, judging.reproduce, judging.compare),
    *(runs.runs, runs.show, runs.logs, runs.stop, runs.sync, runs.clean),
    *(cloud.cloud, cloud.ci),
    *(machine.doctor, project.lock, project.test, project.new, project.init),
)
