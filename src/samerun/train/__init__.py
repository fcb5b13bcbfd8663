"""The code that runs in the container: the entrypoint, one worker per process, recipes."""
