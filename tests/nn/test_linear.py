import torch

from fastvae import ops
from fastvae.nn import LinearEncoder


def test_all_examples_share_one_variance():
    encoder = LinearEncoder(6, 2)
    mu, logvar = encoder(torch.rand(5, 2, 3))
    assert mu.shape == logvar.shape == (5, 2)
    assert torch.equal(logvar, encoder.logvar.expand(5, 2))


def test_mu_and_logvar_have_the_same_dtype_under_autocast():
    encoder = LinearEncoder(6, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mu, logvar = encoder(torch.rand(5, 6))
        z, rate = ops.gaussian_rsample_kl(mu, logvar, ops.noise_key(0))
    assert mu.dtype == logvar.dtype == rate.dtype == torch.float32
    (z.sum() + rate.sum()).backward()
    assert encoder.logvar.grad.shape == (2,)
