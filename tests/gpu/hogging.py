"""Hold the GPU's memory but for some megabytes, and say so: ``python hogging.py LEFT``."""

import sys
import time

import torch

if __name__ == "__main__":
    torch.ones(1, device="cuda")
    left = int(sys.argv[1]) * 2**20
    kept = [torch.empty(torch.cuda.mem_get_info()[0] - left, dtype=torch.uint8, device="cuda")]
    print("holding", flush=True)
    time.sleep(300)
