import pytest
import torch
from torch import nn

from fastvae.nn import MLP, ConditionAffine, ConditionBias, LinearEncoder, MLPDecoder, MLPEncoder

GENERATOR = torch.Generator().manual_seed(0)
X, C = torch.rand(5, 6, generator=GENERATOR), torch.rand(5, 3, generator=GENERATOR)


def test_condition_bias_equals_concatenation_to_the_input():
    layer, bias = nn.Linear(6, 4), ConditionBias(3, 4)
    concatenated = nn.Linear(9, 4)
    with torch.no_grad():
        concatenated.weight.copy_(torch.cat([layer.weight, bias.weight], dim=1))
        concatenated.bias.copy_(layer.bias)
    torch.testing.assert_close(bias(layer(X), C), concatenated(torch.cat([X, C], dim=1)))


@pytest.mark.parametrize(("shape", "dim"), [((5, 4, 2, 2), 1), ((5, 7, 4), -1), ((5, 4), -1)])
def test_condition_bias_is_added_along_the_given_dimension(shape, dim):
    hidden, bias = torch.rand(shape), ConditionBias(3, 4, dim=dim)
    added = (bias(hidden, C) - hidden).movedim(dim, -1)
    expected = C @ bias.weight.T
    torch.testing.assert_close(
        added, expected.view(5, *[1] * (len(shape) - 2), 4).expand(added.shape), atol=1e-6, rtol=0
    )


def test_a_layer_without_a_condition_has_no_parameters():
    before = torch.get_rng_state()
    bias = ConditionBias(0, 4)
    assert not list(bias.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    assert bias(X) is X


def test_condition_affine_is_initially_a_bias_and_scales_per_class():
    torch.manual_seed(3)
    bias = ConditionBias(3, 4)
    torch.manual_seed(3)
    affine = ConditionAffine(3, 4, dim=1)
    hidden, classes = torch.rand(3, 4, 2, 2), torch.eye(3)
    torch.testing.assert_close(affine(hidden[:, :, 0, 0], classes), bias(hidden[:, :, 0, 0], classes))
    with torch.no_grad():
        affine.scale[:, 1] = 2.0
    added = affine(torch.zeros_like(hidden), classes)
    torch.testing.assert_close(affine(hidden, classes) - added, hidden * torch.tensor([1.0, 3.0, 1.0]).view(3, 1, 1, 1))
    assert not list(ConditionAffine(0, 4).parameters())


def test_film_scales_and_shifts_every_hidden_layer():
    network = MLP(6, (5, 4), 2, condition_dim=3, conditioning="film")
    network(X, C).sum().backward()
    layers = [network.condition, *network.later]
    assert [layer.weight.shape for layer in layers] == [(5, 3), (4, 3)]
    assert all(bool(layer.weight.grad.any()) and bool(layer.scale.grad.any()) for layer in layers)


@pytest.mark.parametrize(
    "build",
    [
        lambda: MLPEncoder(6, (4, 4), 2, condition_dim=3, conditioning="film"),
        lambda: MLPDecoder(6, (), 7, condition_dim=3, conditioning="film"),
        lambda: MLPEncoder(6, (4, 4), 2, condition_dim=3),
        lambda: MLPEncoder(6, (), 2, condition_dim=3),
        lambda: LinearEncoder(6, 2, condition_dim=3),
        lambda: MLP(6, 4, (2, 3), condition_dim=3),
        lambda: MLPDecoder(6, (), 7, condition_dim=3),
    ],
    ids=[
        "MLPEncoder with FiLM",
        "MLPDecoder with FiLM",
        "MLPEncoder",
        "MLPEncoder without a hidden layer",
        "LinearEncoder",
        "MLP",
        "MLPDecoder",
    ],
)
def test_every_network_depends_on_its_condition(build):
    network = build()

    def first(output):
        return output[0] if isinstance(output, tuple) else output

    one, other = first(network(X, C)), first(network(X, C.flip(0)))
    assert not torch.allclose(one[0], other[0])
    torch.testing.assert_close(one[2], other[2])  # flipping does not change the middle example's condition
    with pytest.raises(ValueError, match=r"condition .*\[B, 3\], got None"):
        network(X)
    with pytest.raises(ValueError, match=r"condition .*\[B, 3\], got \[5, 6\]"):
        network(X, X)
