"""Observers and controllers of training."""
