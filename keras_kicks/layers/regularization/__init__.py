"""Layers that regularize by noise."""
