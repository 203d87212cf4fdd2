"""fastvae: variational autoencoders from one process to a cluster."""
