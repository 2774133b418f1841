"""The few hand-written kernels, and what they share."""
