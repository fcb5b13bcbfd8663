"""Files for engines that train elsewhere: SkyPilot, Kubernetes, a bare VM."""
