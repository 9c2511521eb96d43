"""Numerically stable primitives shared by the losses and modules."""
