"""The memory bank, its negatives, and the fused contrast over its rows."""
