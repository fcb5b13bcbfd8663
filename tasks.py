"""The verbs of samerun, for Invoke; `samerun.verbs` holds them, one module per subject."""

from invoke.collection import Collection

from samerun.host import positional
from samerun.verbs import cloud, image, machine, project, runs, training, transfer

positional.install()
positional.optional("train", "target", "digits")
for _verb in ("inspect", "push", "save"):
    positional.optional(_verb, "image", "")

namespace = Collection(
    *(machine.setup, image.build, image.verify, image.inspect, project.audit, image.digest),
    *(transfer.push, transfer.pull, transfer.save, transfer.load),
    *(training.train, training.recipes, runs.sync),
    *(cloud.cloud, cloud.ci),
    *(machine.doctor, project.lock, project.test),
)
