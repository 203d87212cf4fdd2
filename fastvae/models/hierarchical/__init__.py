"""VAEs of several stochastic layers."""
