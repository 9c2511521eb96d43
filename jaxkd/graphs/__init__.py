"""Nearest-neighbour graphs over a batch and propagation on them."""

from jaxkd.graphs._neighbors import nearest_neighbors as nearest_neighbors
from jaxkd.graphs._neighbors import propagate as propagate
