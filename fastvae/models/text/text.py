"""VAEs of sentences: an encoder that reads tokens, a decoder that predicts each from those before it and from z."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.likelihoods import BoundCategorical, draw_tokens
from fastvae.models.text.beam import beam_search
from fastvae.models.vae.vae import VAE, as_batch
from fastvae.nn import drop_tokens
from fastvae.records import BEGIN, END, PAD, UNKNOWN, Batch


class TextVAE(VAE):
    """A VAE of token sequences with an autoregressive decoder (Bowman et al. 2016, arXiv 1511.06349).

    A batch's x and target are ids [B, T]: a sentence, `END`, then `PAD`, which its mask leaves out.

    Args:
        encoder: from (ids [B, T], condition) to mu and logvar [B, D].
        decoder: has ``forward(z, ids, condition, noise_key)``, ``start(z, condition)`` and ``step(state, ids)``, as
            `fastvae.nn.RecurrentDecoder`.
        likelihood: `fastvae.likelihoods.Categorical` over the decoder's features.
        latent_dim: D.
        max_length: tokens after which a sentence is ended, its end not counted.
        length_columns: first and last column + 1 of the condition that say the length, one-hot from 1 on; None where
            the condition does not say it.
        word_dropout: share of the tokens that the decoder does not see in training.
        temperature: of the draws of `generate`: 1 draws from the model, below 1 prefers likely tokens.
        beam_width: beginnings that `generate` keeps where it draws nothing; 1 takes the most probable token each time.
        no_repeat: length of the runs of tokens that such a sentence has once at most; 0 allows every repetition.

    Raises:
        ValueError: a rate, the temperature or one of the search's numbers is out of its range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
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
        """The distribution of each token of the batch given z [B, D] or [K, B, D] and the tokens before it.

        Raises:
            ValueError: there is no batch to read the tokens from.
        """
        if batch is None:
            raise ValueError("TextVAE.decode: batch must be given, its tokens are read; generate(z) needs none")
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
        """Sentences: the most probable one that a beam search finds or, with a key, one drawn token after token.

        Where the condition says a length, a sentence ends there and not before (a mixture of two conditions says the
        length between theirs); unknown words are not written.

        Args:
            z: [N, D].
            condition: [N, C], or [C] for all; None for a model that takes none.
            noise_key: int64 [3]; row i has the noise of row first_row + i. None draws nothing.
            temperature: of the draws; None takes the model's own.

        Returns:
            int64 [N, T]: each sentence, `END`, then `PAD` up to the longest.
        """
        condition = None if condition is None else condition.expand(len(z), -1)
        condition, lengths = self._with_whole_length(condition)
        if noise_key is None:
            return self._search(z, condition, lengths)
        uniform = self._uniform(noise_key, len(z))
        state = self.decoder.start(z, condition)  # type: ignore[operator]
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
        """The sentence of each latent that a beam search finds."""
        each = partial(torch.repeat_interleave, repeats=self.beam_width, dim=0)
        state = self.decoder.start(each(z), None if condition is None else each(condition))  # type: ignore[operator]
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
        """Log probabilities [N, V] of the token at a place, -inf where it may not stand, and the state there."""
        features, state = self.decoder.step(state, tokens)  # type: ignore[operator]
        scores = self.likelihood.log_probs(features)  # type: ignore[operator]
        shortest, longest = (1, self.max_length) if lengths is None else (lengths, lengths)
        end = scores[:, END].masked_fill(torch.as_tensor(place < shortest, device=scores.device), -torch.inf)
        must_end = torch.as_tensor(place >= longest, device=scores.device).expand(len(scores))
        scores = scores.masked_fill(must_end.unsqueeze(1), -torch.inf)
        scores[:, [PAD, BEGIN, UNKNOWN]] = -torch.inf
        scores[:, END] = end
        return scores, state

    def _seen(self, batch: Batch) -> Tensor:
        """What the decoder reads before it predicts each token: the target shifted, in training with words lost."""
        tokens = batch.target
        if batch.dropout_key is not None:
            tokens = drop_tokens(tokens, self.word_dropout, UNKNOWN, batch.dropout_key)
        return torch.cat((torch.full_like(tokens[:, :1], BEGIN), tokens[:, :-1]), 1)

    def _uniform(self, noise_key: Tensor, num: int) -> Tensor:
        """The uniform numbers [num, T] that tokens are drawn by."""
        stream = ops.stream(ops.Use.GENERATION, ops.GenerationSite.EVENT)
        return ops.philox_uniform(noise_key, num, self.max_length + 1, stream=stream)

    def _with_whole_length(self, condition: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The condition and the lengths [N] that it says; between two conditions lies the length between theirs."""
        if condition is None or self.length_columns is None:
            return condition, None
        first, stop = self.length_columns
        said = condition[:, first:stop]
        steps = torch.arange(stop - first, device=condition.device, dtype=said.dtype)
        place = (said @ steps / said.sum(1)).round().long()
        whole = nn.functional.one_hot(place, stop - first).to(condition.dtype)
        return torch.cat((condition[:, :first], whole, condition[:, stop:]), 1), place + 1
