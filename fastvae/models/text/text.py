"""VAEs of sentences: an encoder of tokens, and an autoregressive decoder given z."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.likelihoods import BoundCategorical, Categorical, draw_tokens
from fastvae.models.text.beam import beam_search
from fastvae.models.vae.vae import VAE, as_batch
from fastvae.nn import RecurrentDecoder, TransformerDecoder, drop_tokens
from fastvae.records import BEGIN, END, PAD, UNKNOWN, Batch


class TextVAE(VAE):
    """A VAE of token sequences with an autoregressive decoder (Bowman et al. 2016, arXiv 1511.06349).

    A batch's x and target are IDs [B, T]: a sentence, `END`, then `PAD`, which its mask excludes.

    Args:
        encoder: from (ids [B, T], condition) to mu and logvar [B, D].
        decoder: has ``forward(z, ids, condition, noise_key)``, ``start(z, condition)`` and ``step(state, ids)``, as
            `fastvae.nn.RecurrentDecoder`.
        likelihood: `fastvae.likelihoods.Categorical` over the decoder's features.
        latent_dim: D.
        max_length: largest number of tokens of a sentence, not counting its end.
        length_columns: first and last column + 1 of the length in the condition, one-hot from 1 on; None if the
            condition has no length.
        word_dropout: fraction of the decoder's input tokens that are masked in training.
        temperature: temperature of samples of `generate`: 1 samples from the model, less than 1 prefers likely tokens.
        beam_width: number of hypotheses of `generate` without sampling; 1 is greedy search.
        no_repeat: length of the n-grams that such a sentence never repeats; 0 allows repetition.

    Raises:
        ValueError: a setting is out of its range.
    """

    draws_at_temperature = True
    decoder: RecurrentDecoder | TransformerDecoder
    likelihood: Categorical

    def __init__(
        self,
        encoder: nn.Module,
        decoder: RecurrentDecoder | TransformerDecoder,
        likelihood: Categorical,
        latent_dim: int | None = None,
        *,
        max_length: int,
        length_columns: tuple[int, int] | None = None,
        word_dropout: float = 0.0,
        temperature: float = 1.0,
        beam_width: int = 1,
        no_repeat: int = 0,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, latent_dim)
        if not (0 <= word_dropout < 1 and temperature > 0):
            raise ValueError(
                f"TextVAE: word_dropout must be in [0, 1) and temperature above 0, got {word_dropout} and {temperature}"
            )
        if beam_width < 1 or no_repeat < 0:
            raise ValueError(
                f"TextVAE: beam_width must be at least 1 and no_repeat at least 0, got {beam_width} and {no_repeat}"
            )
        self.max_length, self.length_columns = max_length, length_columns
        self.beam_width, self.no_repeat = beam_width, no_repeat
        self.word_dropout, self.temperature = word_dropout, temperature

    def decode(
        self, z: Tensor, batch: Batch | Tensor | None = None, *, condition: Tensor | None = None
    ) -> BoundCategorical:
        """Return the distribution of each token of the batch given z [B, D] or [K, B, D] and the tokens before it.

        Raises:
            ValueError: there is no batch with tokens.
        """
        if batch is None:
            raise ValueError("TextVAE.decode: batch is required, since its tokens are read; generate(z) needs none")
        batch = as_batch(batch)
        condition = batch.condition if condition is None else condition
        if condition is not None:
            condition = condition.expand(*z.shape[:-1], -1).flatten(0, -2)
        features = self.decoder(z.flatten(0, -2), self._seen(batch), condition, batch.dropout_key)
        bound: BoundCategorical = self.likelihood(features.unflatten(0, z.shape[:-1]))
        return bound

    @torch.no_grad()
    def generate(
        self,
        z: Tensor,
        condition: Tensor | None = None,
        noise_key: Tensor | None = None,
        *,
        temperature: float | None = None,
    ) -> Tensor:
        """Generate sentences: the most probable one by beam search or, with a key, a sample.

        If the condition contains a length, the sentence has this length (a mixture of two conditions has the length
        between theirs); unknown words are not generated.

        Args:
            z: [N, D].
            condition: [N, C], or [C] for all; None for a model without conditions.
            noise_key: int64 [3]; row i has the noise of row first_row + i. None uses beam search.
            temperature: temperature of samples; None is the model's.

        Returns:
            int64 [N, T]: each sentence, `END`, then `PAD` up to the longest.
        """
        condition = None if condition is None else condition.expand(len(z), -1)
        condition, lengths = self._with_whole_length(condition)
        if noise_key is None:
            return self._search(z, condition, lengths)
        uniform = self._uniform(noise_key, len(z))
        state = self.decoder.start(z, condition)
        tokens = torch.full((len(z),), BEGIN, device=z.device)
        written: list[Tensor] = []
        for place in range(self.max_length + 1):
            scores, state = self._next(state, tokens, place, lengths)
            is_over = (tokens == END) | (tokens == PAD)
            chosen = draw_tokens(scores / (self.temperature if temperature is None else temperature), uniform[:, place])
            tokens = chosen.masked_fill(is_over, PAD)
            written.append(tokens)
            if bool(((tokens == END) | (tokens == PAD)).all()):
                break
        return torch.stack(written, 1)

    def _search(self, z: Tensor, condition: Tensor | None, lengths: Tensor | None) -> Tensor:
        """Return the sentence of each latent by beam search."""
        each = partial(torch.repeat_interleave, repeats=self.beam_width, dim=0)
        state = self.decoder.start(each(z), None if condition is None else each(condition))
        return beam_search(
            partial(self._next, lengths=None if lengths is None else each(lengths)),
            state,
            len(z),
            width=self.beam_width,
            no_repeat=self.no_repeat,
            most=self.max_length + 1,
            device=z.device,
        )

    def _next(self, state: Any, tokens: Tensor, place: int, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """Return log probabilities [N, V] of the token at a position, -inf if not allowed, and the next state."""
        features, state = self.decoder.step(state, tokens)
        scores = self.likelihood.log_probs(features)
        shortest, longest = (1, self.max_length) if lengths is None else (lengths, lengths)
        end = scores[:, END].masked_fill(torch.as_tensor(place < shortest, device=scores.device), -torch.inf)
        must_end = torch.as_tensor(place >= longest, device=scores.device).expand(len(scores))
        scores = scores.masked_fill(must_end.unsqueeze(1), -torch.inf)
        scores[:, [PAD, BEGIN, UNKNOWN]] = -torch.inf
        scores[:, END] = end
        return scores, state

    def _seen(self, batch: Batch) -> Tensor:
        """Return the decoder's input: the shifted target, in training with word dropout."""
        tokens = batch.target
        if batch.dropout_key is not None:
            tokens = drop_tokens(tokens, self.word_dropout, UNKNOWN, batch.dropout_key)
        return torch.cat((torch.full_like(tokens[:, :1], BEGIN), tokens[:, :-1]), 1)

    def _uniform(self, noise_key: Tensor, num: int) -> Tensor:
        """The uniform numbers [num, T] from which tokens are sampled."""
        stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.EVENT)
        return ops.philox_uniform(noise_key, num, self.max_length + 1, stream=stream)

    def _with_whole_length(self, condition: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the condition and its lengths [N]; a mixture of two conditions has the length between theirs."""
        if condition is None or self.length_columns is None:
            return condition, None
        first, stop = self.length_columns
        said = condition[:, first:stop]
        steps = torch.arange(stop - first, device=condition.device, dtype=said.dtype)
        place = (said @ steps / said.sum(1)).round().long()
        whole = nn.functional.one_hot(place, stop - first).to(condition.dtype)
        return torch.cat((condition[:, :first], whole, condition[:, stop:]), 1), place + 1
