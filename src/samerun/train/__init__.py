"""What runs in the container: the entry, one worker per process, the recipes."""
