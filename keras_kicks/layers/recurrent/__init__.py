"""Recurrent and recursive networks."""
