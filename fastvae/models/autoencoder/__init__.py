"""The deterministic autoencoder."""
