"""Members that see bootstrap samples, and are trained at once."""
