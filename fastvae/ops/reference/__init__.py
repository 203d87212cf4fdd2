"""The operators' math in plain PyTorch: the reference for tests of the native kernels, and the fallback without them.

It works on any device and under torch.compile. Values are computed in float32 (in float64 for float64 input) and
rounded once, at the end. Sums have one fixed order, so that no bit depends on the batch's split
or on the number of threads.
"""

from fastvae.ops.reference.gaussian import compute_dtype as compute_dtype
from fastvae.ops.reference.gaussian import exp_minus_one_minus as exp_minus_one_minus
from fastvae.ops.reference.gaussian import gaussian_rsample_kl as gaussian_rsample_kl
from fastvae.ops.reference.gaussian import gaussian_rsample_kl_backward as gaussian_rsample_kl_backward
from fastvae.ops.reference.gaussian import gaussian_rsample_kl_full as gaussian_rsample_kl_full
from fastvae.ops.reference.gaussian import gaussian_rsample_kl_full_backward as gaussian_rsample_kl_full_backward
from fastvae.ops.reference.gaussian import gaussian_rsample_log_ratio as gaussian_rsample_log_ratio
from fastvae.ops.reference.gaussian import gaussian_rsample_log_ratio_backward as gaussian_rsample_log_ratio_backward
from fastvae.ops.reference.gaussian import sum_in_order as sum_in_order
from fastvae.ops.reference.likelihood import batch_shape as batch_shape
from fastvae.ops.reference.likelihood import bernoulli_nll as bernoulli_nll
from fastvae.ops.reference.likelihood import bernoulli_nll_and_gradient as bernoulli_nll_and_gradient
from fastvae.ops.reference.likelihood import bernoulli_nll_backward as bernoulli_nll_backward
from fastvae.ops.reference.likelihood import discretized_logistic_nll as discretized_logistic_nll
from fastvae.ops.reference.likelihood import discretized_logistic_nll_backward as discretized_logistic_nll_backward
from fastvae.ops.reference.likelihood import gaussian_nll as gaussian_nll
from fastvae.ops.reference.likelihood import gaussian_nll_backward as gaussian_nll_backward
from fastvae.ops.reference.likelihood import multinomial_nll as multinomial_nll
from fastvae.ops.reference.likelihood import multinomial_nll_backward as multinomial_nll_backward
from fastvae.ops.reference.likelihood import multinomial_nll_csr as multinomial_nll_csr
from fastvae.ops.reference.likelihood import multinomial_nll_csr_backward as multinomial_nll_csr_backward
from fastvae.ops.reference.likelihood import multinomial_nll_csr_formula as multinomial_nll_csr_formula
from fastvae.ops.reference.likelihood import multinomial_nll_formula as multinomial_nll_formula
from fastvae.ops.reference.philox import box_muller as box_muller
from fastvae.ops.reference.philox import philox4x32_10 as philox4x32_10
from fastvae.ops.reference.philox import philox_integers as philox_integers
from fastvae.ops.reference.philox import philox_normal as philox_normal
from fastvae.ops.reference.philox import philox_uniform as philox_uniform
from fastvae.ops.reference.philox import philox_uniform_at as philox_uniform_at
