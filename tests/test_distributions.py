import pytest
import torch
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

from fastvae import ops
from fastvae.distributions import DiagonalGaussian, kl_divergence

SHAPES = [(1, 1), (5, 7), (4, 2, 3), (3,)]


def gaussian(shape, *, seed=0, dtype=torch.float64, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    mu, logvar = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    return DiagonalGaussian(mu.requires_grad_(requires_grad), logvar.requires_grad_(requires_grad))


def torch_gaussian(mine):
    return Independent(Normal(mine.mu, torch.exp(mine.logvar / 2), validate_args=False), mine.mu.dim() - 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_agrees_with_torch_distributions(shape):
    posterior = gaussian(shape)
    z = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(posterior.log_prob(z), torch_gaussian(posterior).log_prob(z))
    torch.testing.assert_close(posterior.log_prob(z[0]), torch_gaussian(posterior).log_prob(z[0]))


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_divergences_agree_with_torch_distributions(shape):
    posterior, prior = gaussian(shape), gaussian(shape, seed=2)
    standard = DiagonalGaussian(torch.zeros_like(posterior.mu), torch.zeros_like(posterior.mu))
    expected = torch_kl_divergence(torch_gaussian(posterior), torch_gaussian(standard))
    torch.testing.assert_close(posterior.kl_divergence(), expected)
    torch.testing.assert_close(kl_divergence(posterior, standard), expected)
    expected = torch_kl_divergence(torch_gaussian(posterior), torch_gaussian(prior))
    torch.testing.assert_close(kl_divergence(posterior, prior), expected)


def test_an_empty_batch_gives_empty_sums():
    empty = gaussian((0, 3))
    z, rate = empty.rsample_kl(ops.noise_key(0))
    assert z.shape == (0, 3)
    assert rate.shape == empty.kl_divergence().shape == empty.log_prob(z).shape == (0,)
    assert torch.equal(empty.kl_per_dimension(), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("magnitude", [1e-7, 1e-4, 1e-2, 0.3, 1.0, 5.0])
def test_kl_is_accurate_near_the_prior(magnitude):
    logvar = torch.tensor([[magnitude], [-magnitude]])
    exact = DiagonalGaussian(torch.zeros(2, 1, dtype=torch.float64), logvar.double()).kl_divergence()
    kl = DiagonalGaussian(torch.zeros(2, 1), logvar).kl_divergence()
    torch.testing.assert_close(kl.double(), exact, rtol=1e-6, atol=0)
    assert (kl > 0).all()


@pytest.mark.parametrize("shape", [(5, 7), (4, 2, 3)])
def test_rsample_kl_agrees_with_the_closed_forms(shape):
    posterior, key = gaussian(shape, dtype=torch.float32), ops.noise_key(3, 4, 5)
    z, rate = posterior.rsample_kl(key, stream=6)
    noise = ops.philox_normal(key, shape[0], z[0].numel(), stream=6).view(shape)
    torch.testing.assert_close(z, posterior.mu + posterior.stddev * noise)
    torch.testing.assert_close(rate, posterior.kl_divergence())


def test_rsample_log_ratio_is_the_difference_of_the_log_densities():
    posterior = gaussian((5, 7))
    z, log_ratio = posterior.rsample_log_ratio(ops.noise_key(0), 9)
    standard = DiagonalGaussian(torch.zeros_like(posterior.mu), torch.zeros_like(posterior.mu))
    assert z.shape == (9, 5, 7)
    torch.testing.assert_close(log_ratio, posterior.log_prob(z) - standard.log_prob(z))


def test_the_mean_of_the_log_ratio_is_the_kl():
    posterior = gaussian((3, 4))
    _, log_ratio = posterior.rsample_log_ratio(ops.noise_key(0), 20_000)
    error = log_ratio.std(0) / 20_000**0.5
    assert ((log_ratio.mean(0) - posterior.kl_divergence()).abs() < 5 * error).all()


def test_kl_per_dimension_adds_up_and_has_the_exact_gradient():
    posterior = gaussian((5, 2, 3), requires_grad=True)
    per_dimension = posterior.kl_per_dimension()
    assert per_dimension.shape == (6,)
    torch.testing.assert_close(per_dimension.sum(), posterior.kl_divergence().sum())
    grad_mu, grad_logvar = torch.autograd.grad(per_dimension.sum(), (posterior.mu, posterior.logvar))
    torch.testing.assert_close(grad_mu, posterior.mu)
    torch.testing.assert_close(grad_logvar, torch.expm1(posterior.logvar) / 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_inputs_are_summed_in_float32(dtype):
    posterior = gaussian((4, 300), dtype=dtype)
    exact = DiagonalGaussian(posterior.mu.double(), posterior.logvar.double())
    for name, arguments in {"kl_divergence": (), "kl_per_dimension": (), "log_prob": (posterior.mu,)}.items():
        value = getattr(posterior, name)(*arguments)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), getattr(exact, name)(*arguments), rtol=1e-5, atol=1e-5)
    _, rate = posterior.rsample_kl(ops.noise_key(0))
    assert rate.dtype == torch.float32


def test_different_shapes_of_mu_and_logvar_are_refused():
    with pytest.raises(ValueError, match=r"logvar .*\[2, 3\], got \[3\].*expand_as"):
        DiagonalGaussian(torch.zeros(2, 3), torch.zeros(3))
