"""Trained weights, and the scripts that trained them."""
