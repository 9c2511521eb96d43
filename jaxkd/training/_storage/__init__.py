"""Checkpoints: their arrays, their checksums, and when they are saved."""
