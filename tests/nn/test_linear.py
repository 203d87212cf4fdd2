import torch

from fastvae import ops
from fastvae.nn import LinearEncoder


def test_the_mean_is_linear_and_the_variance_shared():
    encoder = LinearEncoder(6, 2)
    mu, logvar = encoder(torch.rand(5, 2, 3))
    assert mu.shape == logvar.shape == (5, 2)
    assert torch.equal(logvar, encoder.logvar.expand(5, 2))


def test_the_pair_has_one_type_under_autocast_and_the_operator_takes_it():
    encoder = LinearEncoder(6, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mu, logvar = encoder(torch.rand(5, 6))
        z, rate = ops.gaussian_rsample_kl(mu, logvar, ops.noise_key(0))
    assert mu.dtype == logvar.dtype == rate.dtype == torch.float32
    (z.sum() + rate.sum()).backward()
    assert encoder.logvar.grad.shape == (2,)
