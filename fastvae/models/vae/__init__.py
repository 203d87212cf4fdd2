"""VAEs of one Gaussian latent: perceptrons and convolutions."""
