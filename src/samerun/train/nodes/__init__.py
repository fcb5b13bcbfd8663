"""
Several nodes, one training.

`place` says which node this is and what it tells the others, `meeting` brings them
together by the `store` of node 0, `job` trains round after round, and `verdict` decides
what follows each.
"""
