"""What W&B's server is asked, and with which key. It imports core only."""
