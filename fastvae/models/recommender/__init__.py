"""Mult-VAE and Mult-DAE on bags of items."""
