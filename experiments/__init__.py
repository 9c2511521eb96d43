"""Experiments with jaxkd, which you run with ``python -m experiments.NAME``."""
