"""Files that run a training elsewhere: with SkyPilot, on Kubernetes, or on a plain VM."""
