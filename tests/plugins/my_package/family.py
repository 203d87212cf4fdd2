"""A VAE whose encoder reads a smoothed signal."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from fastvae.models import Family, ModelConfig, ModelInputs, Network, Networks
from fastvae.nn import MLPDecoder, MLPEncoder
from fastvae.own_settings import own_settings
from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SmoothConfig(Settings):
    """Options --model.smooth.NAME."""

    window: int = 3
    """Values that the moving average spans."""


class SmoothEncoder(MLPEncoder):
    """An MLP on the moving average of x [B, T]."""

    def __init__(self, length: int, hidden_dim: tuple[int, ...], latent_dim: int, window: int) -> None:
        super().__init__(length, hidden_dim, latent_dim)
        self.window = window

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        smooth = functional.avg_pool1d(x.unsqueeze(1), self.window, 1, self.window // 2, count_include_pad=False)
        return super().forward(smooth.squeeze(1)[:, : x.shape[1]])


def build(config: ModelConfig, inputs: ModelInputs) -> Networks:
    window = own_settings(config, SmoothConfig).window
    encoder = SmoothEncoder(inputs.event_numel, config.hidden_dim, config.latent_dim, window)
    decoder = MLPDecoder(config.latent_dim, config.hidden_dim, inputs.output_shape)
    return Networks(encoder, decoder, set_output_bias=decoder.set_output_bias)


FAMILY = Family(
    name="smooth",
    description="A VAE of smoothed signals.",
    build=build,
    networks={"mlp": Network(options=("hidden_dim",))},
    likelihoods=("gaussian",),
    kinds=("signals",),
)
