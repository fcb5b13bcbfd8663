"""What this computer offers: engine, network, GPUs, user, memory. It knows no image and no run."""
