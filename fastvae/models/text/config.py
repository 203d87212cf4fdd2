"""Settings of the text family. Nothing here imports PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from fastvae.settings import Settings


@dataclass(frozen=True, kw_only=True)
class TextConfig(Settings):
    """The networks of sentences: gru, lstm and transformer. Their width is the model's ``hidden_dim``."""

    embedding_dim: int = 128
    """Width of a token's vector, for gru and lstm; a transformer has one width."""
    num_layers: int = 1
    """Recurrent layers or transformer blocks, of the encoder and of the decoder alike."""
    num_heads: int = 4
    """Heads of a transformer's attention."""
    dropout: float = 0.0
    """Probability that training drops a unit of the decoder, in [0, 1)."""
    word_dropout: float = 0.0
    """Probability that training hides a word from the decoder, in [0, 1)."""
    cutoffs: tuple[int, ...] = (1000, 4000)
    """First ids of the adaptive softmax's clusters, frequent words first; () makes it a plain softmax."""
    temperature: float = 1.0
    """Temperature of sampled words: 1 draws from the model, below 1 prefers likely words."""
    beam_width: int = 8
    """Hypotheses that beam search keeps; 1 is greedy search."""
    no_repeat: int = 3
    """Beam search writes no n-gram of this length twice; 0 allows every repetition."""

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
