"""A script that turns on all the debugging there is, then starts a W&B run."""

import os

os.environ |= {"WANDB_DEBUG": "true", "WANDB_CORE_DEBUG": "true", "WANDB__DEBUG_LOG": "true"}
os.environ |= {"NCCL_DEBUG": "INFO", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "PYTHONDEVMODE": "1"}
import logging

import wandb

logging.basicConfig(level=logging.DEBUG)
with wandb.init(project="own") as run:
    run.log({"x": 1})
