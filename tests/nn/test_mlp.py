import pytest
import torch

from fastvae.nn import MLP, MLPDecoder, MLPEncoder


@pytest.mark.parametrize("hidden", [5, (5,), (6, 5), [7, 6, 5]])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_shapes_and_layers(hidden, activation):
    widths = [hidden] if isinstance(hidden, int) else list(hidden)
    encoder, decoder = MLPEncoder(12, hidden, 2, activation), MLPDecoder(2, hidden, (1, 3, 4), activation)
    mu, logvar = encoder(torch.rand(8, 1, 3, 4))
    assert mu.shape == logvar.shape == (8, 2)
    assert decoder(mu).shape == (8, 1, 3, 4)
    assert MLPDecoder(2, hidden, 12, activation)(mu).shape == (8, 12)
    assert [layer.out_features for layer in encoder.hidden if hasattr(layer, "out_features")] == widths


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float64])
def test_inputs_of_any_numeric_dtype_are_accepted(dtype):
    mu, _ = MLPEncoder(4, 3, 2)(torch.ones(5, 2, 2).to(dtype))
    assert mu.dtype == torch.float32


def test_an_empty_batch_gives_an_empty_batch():
    mu, logvar = MLPEncoder(4, 3, 2)(torch.rand(0, 2, 2))
    assert mu.shape == logvar.shape == MLPDecoder(2, 3, 2)(mu).shape == (0, 2)


def test_an_mlp_without_hidden_layers_is_linear():
    layer = MLP(3, (), 2)
    assert len(list(layer.parameters())) == 2
    x, y = torch.rand(1, 3), torch.rand(1, 3)
    with torch.no_grad():
        torch.testing.assert_close(layer(x + y) + layer(torch.zeros(1, 3)), layer(x) + layer(y))


def test_set_output_bias_sets_the_initial_output():
    decoder, output = MLPDecoder(2, 3, (2, 2)), torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    decoder.set_output_bias(output)
    with torch.no_grad():
        for parameter in decoder.hidden.parameters():
            parameter.zero_()
        torch.testing.assert_close(decoder(torch.rand(1, 2)), output[None])
    with pytest.raises(ValueError, match=r"output .*4 .*got shape \[3\]"):
        decoder.set_output_bias(torch.zeros(3))


@pytest.mark.parametrize("make", [MLP, MLPEncoder, MLPDecoder])
def test_errors_name_the_class_and_the_value(make):
    with pytest.raises(ValueError, match=rf"{make.__name__}: activation .*'gelu'"):
        make(4, 3, 2, "gelu")
    with pytest.raises(ValueError, match=rf"{make.__name__}: .*\[4, 0\]"):
        make(4, 0, 2)
