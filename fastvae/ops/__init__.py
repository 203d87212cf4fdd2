"""The fused operators: each one schema, a reference in plain PyTorch, and native kernels where the library is loaded."""

from fastvae.ops.gaussian_rsample_kl import gaussian_rsample_kl
from fastvae.ops.noise import Use, noise_key, stream
from fastvae.ops.philox import philox_integers, philox_normal, philox_uniform
