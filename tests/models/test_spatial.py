"""Latents of shape [C, h, w]: the operator, objectives, evaluation, paths through the latent space and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastvae
from fastvae import VAE, DiagonalGaussian, Draw, ops
from fastvae.data import as_data
from fastvae.objective import elbo, iw_bound
from fastvae.run import LoadedRun

KEY = ops.noise_key(1, 2, 0)
SHAPE = (3, 2, 2)


class SpatialEncoder(nn.Module):
    """A user's encoder: mu and logvar are feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 2, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.conv(x).chunk(2, dim=1)


class SpatialDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(3, 1, 2, stride=2)

    def forward(self, z: Tensor) -> Tensor:
        assert z.shape[1:] == SHAPE
        return self.conv(z)


class Flat(nn.Module):
    """The same network with its latents flattened."""

    def __init__(self, network: nn.Module, is_encoder: bool) -> None:
        super().__init__()
        self.network, self.is_encoder = network, is_encoder

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.is_encoder:
            return tuple(part.flatten(1) for part in self.network(x))
        return self.network(x.unflatten(1, SHAPE))


def spatial_vae() -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(SpatialEncoder(), SpatialDecoder(), fastvae.Bernoulli(), latent_dim=SHAPE)


def images(num: int) -> Tensor:
    return torch.rand(num, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("draw", [Draw(), Draw(per_dimension=True), Draw(4), Draw(evaluation=True)])
def test_terms_equal_those_of_the_flattened_latent(draw: Draw) -> None:
    model = spatial_vae()
    flat = VAE(Flat(model.encoder, True), Flat(model.decoder, False), fastvae.Bernoulli(), latent_dim=12)
    terms, expected = (m(images(5), KEY, draw) for m in (model, flat))
    samples = (5,) if draw.num_samples == 1 else (4, 5)
    assert terms.z.shape == (*samples, *SHAPE)
    assert torch.equal(terms.z.flatten(len(samples)), expected.z)
    assert torch.equal(terms.rate, expected.rate)
    torch.testing.assert_close(terms.distortion, expected.distortion)
    if draw.per_dimension:
        assert torch.equal(terms.rate_per_dimension, expected.rate_per_dimension)
        assert terms.rate_per_dimension.shape == (12,)
    (elbo if draw.num_samples == 1 else iw_bound)(terms).loss.sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())
    assert torch.equal(model.sample(3, KEY), flat.sample(3, KEY))
    assert (model.latent_dim, model.latent_shape) == (12, SHAPE)


def test_the_reconstruction_has_a_gradient() -> None:
    for draw, shape in ((Draw(reconstruction=True), (5, 1, 4, 4)), (Draw(3, reconstruction=True), (3, 5, 1, 4, 4))):
        model = spatial_vae()
        terms = model(images(5), KEY, draw)
        assert terms.reconstruction.shape == shape
        terms.reconstruction.sum().backward()
        assert all(parameter.grad.any() for parameter in model.parameters())
        assert model(images(5), KEY).reconstruction is None


def test_an_undeclared_or_wrong_shape_is_refused() -> None:
    for shape in (None, 12, (3, 2, 1)):
        model = VAE(SpatialEncoder(), SpatialDecoder(), fastvae.Bernoulli(), latent_dim=shape)
        with pytest.raises(
            ValueError, match=r"got \[3, 2, 2\]; build the model with VAE\(\.\.\., latent_dim=\(3, 2, 2\)"
        ):
            model(images(2), KEY)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    config = fastvae.TrainConfig(
        steps=12, global_batch_size=16, accumulation=2, final_samples=3, device="cpu", lr=1e-2,
        objective=fastvae.ObjectiveConfig(free_bits=0.01),
    )  # fmt: skip
    data, directory = as_data((images(40), images(24))), tmp_path_factory.mktemp("spatial")
    trained = fastvae.train(spatial_vae(), data, config, run_dir=directory)
    assert trained.evaluation.latent_units == len(trained.evaluation.kl_per_dimension_nats) == 12
    assert sum(trained.evaluation.kl_per_dimension_nats) == pytest.approx(trained.evaluation.rate_nats, rel=1e-4)
    settings = fastvae.RunConfig(data=fastvae.DataConfig(), model=fastvae.ModelConfig(), train=fastvae.TrainConfig())
    model = trained.model.eval()
    return LoadedRun(directory=directory, config=settings, data=data, model=model, device=torch.device("cpu"))


def test_paths_through_the_latent_space(run: LoadedRun) -> None:
    assert run.interpolate(0, 1, steps=5).shape == (5, 1, 4, 4)
    ends = run.model.generate(run.model.encode(run.batch(torch.tensor([0, 1]))).mu)
    torch.testing.assert_close(run.interpolate(0, 1, steps=5)[[0, -1]], ends)
    rows = run.traverse(4, steps=3)
    assert rows.examples.shape == (4, 3, 1, 4, 4)
    assert all(name.startswith("z") and int(name[1:]) < 12 for name in rows.names)
    assert run.vary(0, 6).shape == (6, 1, 4, 4)
    assert run.sample(3, shift=torch.ones(SHAPE)).shape == (3, 1, 4, 4)
    with pytest.raises(ValueError, match=r"sample: shift: must have the model's latent shape \[3, 2, 2\], got \[12\]"):
        run.sample(3, shift=torch.ones(12))


def test_latents_are_stored_in_their_shape(run: LoadedRun, tmp_path: Path) -> None:
    stored = np.load(run.save_latents(tmp_path / "latents.npz"))
    assert stored["mu"].shape == stored["logvar"].shape == (24, *SHAPE)
    decoded = run.decode(torch.from_numpy(stored["mu"]))
    torch.testing.assert_close(decoded, run.reconstruct(24)[1])
    with pytest.raises(ValueError, match=r"decode: z: must have the model's latent shape \[3, 2, 2\], got \[12\]"):
        run.decode(torch.zeros(2, 12))


def test_densities_of_spatial_latents() -> None:
    mu, logvar = torch.randn(2, 5, *SHAPE, generator=torch.Generator().manual_seed(1)).unbind()
    posterior = DiagonalGaussian(mu, logvar)
    z, log_ratio = posterior.rsample_log_ratio(KEY, 4)
    prior = fastvae.StandardNormal(SHAPE)
    torch.testing.assert_close(log_ratio, posterior.log_prob(z) - prior.log_prob(z), rtol=1e-4, atol=1e-4)
    learned = fastvae.GaussianPrior(SHAPE)
    torch.testing.assert_close(learned.kl(posterior), posterior.kl_divergence())
    torch.testing.assert_close(learned.kl_per_dimension(posterior), posterior.kl_per_dimension())
    torch.testing.assert_close(learned.log_prob(z), prior.log_prob(z))
    assert torch.equal(learned.rsample(6, KEY), prior.rsample(6, KEY))
