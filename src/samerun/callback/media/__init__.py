"""What the callback shows: predictions, tables, images, charts. It leaves the learner as it was."""
