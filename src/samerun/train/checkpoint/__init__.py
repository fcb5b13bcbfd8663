"""
Checkpoints from which a training resumes with bit-identical results.

`install` extends ``Learner.fit``, so scripts need no changes. `callback` writes and restores
checkpoints, `snapshot` captures the state that the next step depends on, `store` manages the
files, and `ranks` makes the processes of a training decide together.
"""
