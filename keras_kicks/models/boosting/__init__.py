"""Weak learners that are trained one after the other."""
