"""The training loop: one compiled step, checkpoints, metrics."""
