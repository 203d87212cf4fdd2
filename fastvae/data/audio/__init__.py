"""Recordings as spectrograms."""
