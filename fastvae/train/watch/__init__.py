"""Monitoring of training: non-finite values, posterior collapse, and the restart of a decoder."""
