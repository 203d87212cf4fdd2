import pytest
import torch

from fastvae.nn import ConvConfig, ConvDecoder, ConvEncoder

SMALL = ConvConfig(channels=(8, 16), groups=4)
SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 20), (1, 28, 28), (3, 9, 13), (1, 64, 64)]


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def moved(module):
    """Perturb the module's parameters, because zero-initialised ones would hide missing connections."""
    with torch.no_grad():
        for parameter, seed in zip(module.parameters(), range(1000), strict=False):
            parameter.add_(0.2 * (rand(*parameter.shape, seed=seed) - 0.5))
    return module


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [(8,), (8, 16), (4, 8, 8)])
def test_output_shapes_for_all_image_sizes(shape, channels):
    config = ConvConfig(channels=channels, groups=4)
    mu, logvar = ConvEncoder(shape, 5, config)(rand(2, *shape))
    assert mu.shape == logvar.shape == (2, 5)
    assert ConvDecoder(5, shape, config)(mu).shape == (2, *shape)


def test_an_example_does_not_depend_on_the_rest_of_its_batch():
    encoder, decoder = moved(ConvEncoder((3, 12, 12), 5, SMALL)), moved(ConvDecoder(5, (3, 12, 12), SMALL))
    x = rand(4, 3, 12, 12)
    mu, _ = encoder(x)
    torch.testing.assert_close(encoder(x[1:2])[0], mu[1:2])
    torch.testing.assert_close(decoder(mu[1:2]), decoder(mu)[1:2])


def test_every_parameter_gets_a_gradient():
    encoder = moved(ConvEncoder((1, 12, 12), 5, SMALL, condition_dim=3))
    decoder = moved(ConvDecoder(5, (1, 12, 12), SMALL, condition_dim=3))
    x, condition = rand(4, 1, 12, 12), torch.eye(3)[[0, 1, 2, 0]]
    mu, logvar = encoder(x, condition)
    decoder(mu + logvar, condition).square().sum().backward()
    for module in (encoder, decoder):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_encoder_and_decoder_depend_on_the_condition():
    encoder = moved(ConvEncoder((1, 12, 12), 5, SMALL, condition_dim=3))
    decoder = moved(ConvDecoder(5, (1, 12, 12), SMALL, condition_dim=3))
    x, one, other = rand(2, 1, 12, 12), torch.eye(3)[[0, 0]], torch.eye(3)[[1, 0]]
    for network, given in ((lambda x, c: encoder(x, c)[0], x), (decoder, rand(2, 5))):
        first, second = network(given, one), network(given, other)
        assert not torch.allclose(first[0], second[0])
        torch.testing.assert_close(first[1], second[1])


def test_set_output_bias_sets_the_initial_output():
    decoder, mean = ConvDecoder(5, (3, 9, 13), SMALL), rand(3, 9, 13)
    decoder.set_output_bias(mean)
    torch.testing.assert_close(decoder(rand(2, 5)), mean.expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ConvConfig(channels=()), r"channels.* got \(\)"),
        (lambda: ConvConfig(channels=(12,)), r"groups .*\(12,\), got 8"),
        (lambda: ConvEncoder((1, 7, 9), 2, SMALL), r"ConvEncoder: .*8 to 64 pixels.* got \[1, 7, 9\]"),
        (lambda: ConvDecoder(2, (784,), SMALL), r"ConvDecoder: .*got \[784\].*mlp"),
        (lambda: ConvEncoder((1, 8, 8), 2, ConvConfig(channels=(8,) * 5)), r"ConvEncoder: 5 scales.*\[8, 8\]"),
    ],
)
def test_invalid_settings_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()
