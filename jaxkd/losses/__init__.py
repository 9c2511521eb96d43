"""Distillation losses as pure functions of arrays: one value per example."""
