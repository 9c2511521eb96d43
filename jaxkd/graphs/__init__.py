"""Nearest-neighbour graphs over a batch and propagation on them."""
