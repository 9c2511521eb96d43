"""Nearest-neighbor graphs over a batch, propagation on them, and their statistics."""

from jaxkd.graphs._agreement import neighbor_agreement as neighbor_agreement
from jaxkd.graphs._agreement import neighbor_purity as neighbor_purity
from jaxkd.graphs._neighbors import most_similar as most_similar
from jaxkd.graphs._neighbors import nearest_neighbors as nearest_neighbors
from jaxkd.graphs._neighbors import propagate as propagate
