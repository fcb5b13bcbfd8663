"""What a process of the training reports to the record."""
