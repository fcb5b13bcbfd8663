wandb_process = None
