"""Layers that are an activation, or learn one."""
