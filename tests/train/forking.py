"""Fork for each job of each line of standard input; print the exit codes. See `resuming.fork`."""

import gc
import json
import os
import sys
from pathlib import Path

import fastai.tabular.all
import fastai.vision.all  # noqa: F401

from samerun.train import worker

LEARNERS = Path(__file__).resolve().parent / "learners.py"


def run(folder, arguments, environment):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.environ.clear()
    os.environ.update(environment)
    os.environ["SAMERUN_RECORD"] = f"{folder}/run.json"
    os.environ["WANDB_DIR"] = folder
    os.environ["WANDB_DATA_DIR"] = f"{folder}/data"
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        worker.main(["7", str(LEARNERS), *arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# What the garbage collector does not touch, the forks share.
gc.collect()
gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    codes = [run(folder, arguments, asked["environment"]) for folder, arguments in asked["jobs"]]
    print(json.dumps(codes), flush=True)
