"""What is measured with jaxkd: programs, run with ``python -m experiments.name``."""
