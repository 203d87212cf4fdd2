import pytest
import torch

from fastvae.evaluate import LatentMoments, posterior_means
from fastvae.evaluate.latent import active_units
from fastvae.models import ModelConfig, build_model
from fastvae.records import Batch


@pytest.mark.parametrize("sizes", [(1000,), (1, 999), (300, 0, 700)])
def test_active_units_are_those_whose_mean_varies_whatever_the_split(sizes):
    spread = torch.tensor([1.0, 0.11, 0.09, 0.0])  # variances 1, 0.0121, 0.0081, 0 against 0.01
    mu = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    mu = (mu - mu.mean(0)) / mu.std(0, correction=0) * spread + 1000  # a large mean must not drown a small variance
    moments = LatentMoments()
    for part in mu.split(sizes):
        moments.add(part)
    assert active_units(moments.sums, 1000) == 2


def test_posterior_means_come_from_encode():
    model, x = build_model(ModelConfig(hidden_dim=(8,), latent_dim=3), (16,)), torch.rand(5, 16)
    batch = Batch(x=x, target=x)
    assert torch.equal(posterior_means(model, batch), model.encoder(x)[0])
    assert posterior_means(torch.nn.Identity(), batch) is None
    autoencoder = build_model(ModelConfig(kind="autoencoder", hidden_dim=(8,), latent_dim=3), (16,))
    assert posterior_means(autoencoder, batch) is None
