"""
Checkpoints from which a training goes on to the same bits.

`install` extends ``Learner.fit`` so that scripts need no change; `keeper` is the callback
that writes and restores, `snapshot` says what the next step depends on, `store` keeps it
on disk, `agree` lets the processes of one training decide as one.
"""
