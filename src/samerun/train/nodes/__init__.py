"""
Training on several nodes.

`card` describes a node to the others, `rendezvous` gathers the nodes through the `store` of
node 0, `rounds` trains round after round, and `decision` decides what follows each round.
"""
