"""Containerized, reproducible fastai training with Weights & Biases."""

__version__ = "0.1.0"
