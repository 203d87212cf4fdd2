"""The run directory: lock, status, checkpoints, weights, logs and results."""
