"""The fused operators: one schema each, a reference in plain PyTorch, native kernels where the library is loaded."""

from fastvae.ops import _native
from fastvae.ops._backend import Backend as Backend
from fastvae.ops._backend import backend as backend
from fastvae.ops._library import decompositions as decompositions
from fastvae.ops.bernoulli_nll import bernoulli_nll as bernoulli_nll
from fastvae.ops.discretized_logistic_nll import discretized_logistic_nll as discretized_logistic_nll
from fastvae.ops.gaussian_nll import gaussian_nll as gaussian_nll
from fastvae.ops.gaussian_rsample_kl import gaussian_rsample_kl as gaussian_rsample_kl
from fastvae.ops.gaussian_rsample_log_ratio import gaussian_rsample_log_ratio as gaussian_rsample_log_ratio
from fastvae.ops.multinomial_nll import multinomial_nll as multinomial_nll
from fastvae.ops.noise import AugmentationSite as AugmentationSite
from fastvae.ops.noise import DropoutSite as DropoutSite
from fastvae.ops.noise import GenerationSite as GenerationSite
from fastvae.ops.noise import LatentSite as LatentSite
from fastvae.ops.noise import PixelSite as PixelSite
from fastvae.ops.noise import SplitSite as SplitSite
from fastvae.ops.noise import Use as Use
from fastvae.ops.noise import noise_key as noise_key
from fastvae.ops.noise import stream as stream
from fastvae.ops.philox import philox_integers as philox_integers
from fastvae.ops.philox import philox_normal as philox_normal
from fastvae.ops.philox import philox_uniform as philox_uniform
from fastvae.ops.philox import philox_uniform_at as philox_uniform_at

native = _native
"""The state of the native library: `loaded`, `reason`, `build_info`, `BUILD_COMMAND`."""
