"""Modules that exist only during distillation."""
