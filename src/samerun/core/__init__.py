"""What host and container share. Standard library only; imports nothing of ours."""
