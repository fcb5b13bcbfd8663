"""The verbs: each parses its options, calls one function of `samerun.host`, and prints."""
