"""What this machine provides: engine, network, GPUs, user, memory; not images or runs."""
