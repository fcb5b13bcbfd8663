"""Reports of the training's processes to the record."""
