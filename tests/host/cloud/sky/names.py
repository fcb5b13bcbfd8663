"""Ask SkyPilot which GPU a label of a cluster's machine names: `names.py LABELS OUT`."""

import json
import sys
from pathlib import Path

import plan


def names(gpus):
    """Yield name, label's value, and SkyPilot's own name; labels that it can't read are left."""
    from sky.provision.kubernetes import utils

    for name, labels in gpus.items():
        for key, values in labels.items():
            for formatter in utils.LABEL_FORMATTER_REGISTRY:
                if formatter.match_label_key(key):
                    for value in values:
                        yield name, value, formatter.get_accelerator_from_label_value(value)


if __name__ == "__main__":
    plan.prepare()
    found = list(names(json.loads(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps(found))
