import pytest
import torch

from fastvae import ops
from fastvae.models import ModelConfig, ModelInputs, build_model
from fastvae.records import Batch, Draw

KEY = ops.noise_key(1, 2, 0)
INPUTS = ModelInputs(event_shape=(1, 4, 4), condition_dim=3)


def model_of(**which):
    return build_model(ModelConfig(**which, hidden_dim=(9,), latent_dim=2), INPUTS, seed=5)


def batch_of(num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(num, 1, 4, 4, generator=generator)
    return Batch(x=x, target=x, condition=torch.rand(num, 3, generator=generator))


def row(batch, i):
    return Batch(x=batch.x[i : i + 1], target=batch.target[i : i + 1], condition=batch.condition[i : i + 1])


def test_every_sample_of_an_example_has_its_condition():
    model, batch = model_of(), batch_of(4)
    terms = model(batch, KEY, Draw(num_samples=3))
    for i in range(4):
        output = model.decoder(terms.z[:, i], batch.condition[i].expand(3, 3))
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            output, batch.target[i].expand(3, 1, 4, 4), reduction="none"
        )
        torch.testing.assert_close(terms.distortion[:, i], expected.flatten(1).sum(1))


@pytest.mark.parametrize("which", [{}, {"family": "autoencoder"}, {"network": "linear"}])
def test_encoding_and_reconstruction_depend_on_the_condition(which):
    model, batch = model_of(**which), batch_of(4)
    whole = model.reconstruct(batch)
    for i in range(4):
        torch.testing.assert_close(whole[i : i + 1], model.reconstruct(row(batch, i)))
    turned = Batch(x=batch.x, target=batch.target, condition=batch.condition.roll(1, 0))
    assert not torch.allclose(model.reconstruct(turned), whole)


def test_samples_are_generated_under_their_conditions():
    model, conditions = model_of(), torch.eye(3)
    together = model.sample(3, KEY, condition=conditions)
    z = ops.philox_normal(KEY, 3, 2, stream=ops.stream(ops.Use.GENERATION))
    torch.testing.assert_close(together, model.generate(z, conditions))
    for i in range(3):  # one condition for all
        torch.testing.assert_close(model.sample(3, KEY, condition=conditions[i])[i], together[i])
    assert set(model.sample(3, KEY, condition=conditions, draw_pixels=True).unique().tolist()) <= {0.0, 1.0}


def test_a_conditional_model_requires_a_condition():
    with pytest.raises(ValueError, match=r"condition must be \[B, 3\], got None"):
        model_of()(torch.rand(2, 1, 4, 4), KEY)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ModelConfig(network="mpl"), "no network is named 'mpl'; did you mean mlp?"),
        (ModelConfig(likelihood="bernouli"), "no likelihood is named 'bernouli'; did you mean bernoulli?"),
        (ModelConfig(family="text-vae"), "no family is named 'text-vae'; did you mean text?"),
    ],
)
def test_unknown_names_are_refused_with_a_suggestion(config, words):
    with pytest.raises(ValueError, match=words):
        build_model(config, INPUTS)
