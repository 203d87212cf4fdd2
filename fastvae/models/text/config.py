"""Settings of the text family. This module does not import PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class TextConfig(Settings):
    """Settings of the networks gru, lstm and transformer. Their width is the model's ``hidden_dim``."""

    embedding_dim: int = 128
    """Size of the token embeddings of gru and lstm; a transformer's equals its width."""
    num_layers: int = 1
    """Number of recurrent layers or transformer blocks of the encoder, and of the decoder."""
    num_heads: int = 4
    """Number of attention heads of a transformer."""
    dropout: float = 0.0
    """Dropout probability of the decoder's units, in [0, 1)."""
    word_dropout: float = 0.0
    """Word dropout: probability that a word of the decoder's input is masked, in [0, 1)."""
    cutoffs: tuple[int, ...] = setting((1000, 4000), advanced=True)
    """First token IDs of the clusters of the adaptive softmax, most frequent words first; () for a full softmax."""
    temperature: float = 1.0
    """Temperature of sampled words: 1 samples from the model, less than 1 prefers likely words."""
    beam_width: int = setting(8, advanced=True)
    """Number of hypotheses of beam search; 1 is greedy search."""
    no_repeat: int = setting(3, advanced=True)
    """Length of the n-grams that beam search never repeats; 0 allows repetition."""

    def __post_init__(self) -> None:
        if min(self.embedding_dim, self.num_layers, self.num_heads) < 1:
            raise ValueError(
                "TextConfig: embedding_dim, num_layers and num_heads must be at least 1,"
                f" got {self.embedding_dim}, {self.num_layers} and {self.num_heads}"
            )
        if self.beam_width < 1 or self.no_repeat < 0:
            raise ValueError(
                "TextConfig: beam_width must be at least 1 and no_repeat at least 0,"
                f" got {self.beam_width} and {self.no_repeat}"
            )
