"""Layers that share parameters."""
