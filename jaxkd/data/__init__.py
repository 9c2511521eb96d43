"""Datasets, augmentation and batching."""
