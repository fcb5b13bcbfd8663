"""The commands: parse options, call one function of the host, print. Not imported elsewhere."""
