"""The last layer of a model, by its task."""
