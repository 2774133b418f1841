"""Layers that change inputs at random while a model is trained."""
