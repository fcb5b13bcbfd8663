"""The verbs: read options, call one function of the host side, print. Nobody imports it."""
