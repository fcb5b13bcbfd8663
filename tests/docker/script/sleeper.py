"""A script that starts a W&B run, then waits to be stopped."""

import time

import wandb

run = wandb.init(project="own")
run.log({"x": 1})
print("WAITING", flush=True)
time.sleep(120)
