"""What the directory of a run holds: lock, status, checkpoints, weights, logs and results."""
