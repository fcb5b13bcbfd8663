"""The hook, as every Python of the image loads it."""

import samerun.train.hook  # noqa: F401
