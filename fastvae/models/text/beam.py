"""Beam search: the most probable sentences of an autoregressive decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from fastvae.records import BEGIN, END, PAD

_REPEATED = 1e4  # nats: more than any sentence's -log p, so that n-grams repeat only without alternatives


class DecoderState(Protocol):
    """State of a decoder of N sentences."""

    def select(self: _State, rows: Tensor) -> _State:
        """Select the state of rows [M] int64, which may repeat."""


_State = TypeVar("_State", bound=DecoderState)
Scores = Callable[[Any, Tensor, int], tuple[Tensor, Any]]


@torch.no_grad()
def beam_search(
    scores: Scores,
    state: DecoderState,
    num: int,
    *,
    width: int,
    no_repeat: int,
    most: int,
    device: torch.device | None = None,
) -> Tensor:
    """For each of N latents, return the sentence with the highest probability per token that the search finds.

    The ``width`` best prefixes of each sentence are kept at each token (Graves 2012, arXiv 1211.3711; Sutskever
    et al. 2014, arXiv 1409.3215). The most probable sentences of a language model are repetitive; an n-gram of
    ``no_repeat`` tokens therefore occurs at most once (Paulus et al. 2017, arXiv 1705.04304, section 2.5).

    Args:
        scores: from the state, the last token [N * width] and the position of the next one to the log probabilities
            [N * width, V] of the next token, -inf if not allowed, and the next state.
        state: before the first token, rows i * width up to (i + 1) * width of sentence i.
        num: N.
        width: number of prefixes to keep.
        no_repeat: 0 allows every repetition.
        most: largest number of tokens, including the end; the scores allow only `END` at the last position.
        device: device of the state; None is the default device.

    Returns:
        int64 [N, T]: each sentence, `END`, then `PAD` up to the longest.
    """
    rows = num * width
    tokens = torch.full((rows,), BEGIN, device=device)
    written = torch.empty(rows, 0, dtype=torch.int64, device=device)
    totals = torch.full((num, width), -torch.inf, device=device)
    totals[:, 0] = 0.0  # all prefixes of a sentence are equal at first
    for place in range(most):
        log_probs, state = scores(state, tokens, place)
        log_probs = log_probs - _REPEATED * _repeats(written, no_repeat, log_probs.shape[1])
        is_over = (tokens == END) | (tokens == PAD)
        log_probs = log_probs.masked_fill(is_over.unsqueeze(1), -torch.inf)
        log_probs[:, PAD] = log_probs[:, PAD].masked_fill(is_over, 0.0)
        candidates = (totals.flatten().unsqueeze(1) + log_probs).view(num, width * log_probs.shape[1])
        totals, best = candidates.topk(width, 1)
        first = torch.arange(num, device=device).unsqueeze(1) * width
        parents = (first + best // log_probs.shape[1]).flatten()
        tokens = (best % log_probs.shape[1]).flatten()
        written, state = torch.cat((written[parents], tokens.unsqueeze(1)), 1), state.select(parents)
        if bool(((tokens == END) | (tokens == PAD)).all()):
            break
    lengths = (written != PAD).sum(1).view(num, width)
    winner = (totals / lengths).argmax(1) + torch.arange(num, device=device) * width
    found = written[winner]
    return found[:, (found != PAD).any(0)]


def _repeats(written: Tensor, run: int, num_tokens: int) -> Tensor:
    """Count, [M, V], how often each next token would complete an n-gram that is already in the row [M, t]."""
    counts = torch.zeros(len(written), num_tokens, device=written.device)
    if run == 0 or written.shape[1] < run:
        return counts
    runs = written.unfold(1, run, 1)  # [M, t - run + 1, run]
    begins_alike = (runs[:, :, :-1] == written[:, None, written.shape[1] - run + 1 :]).all(2)
    return counts.scatter_add(1, runs[:, :, -1], begins_alike.to(counts.dtype))
