"""Sentences as tokens."""
