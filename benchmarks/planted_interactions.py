"""Synthetic interactions of the size of MovieLens-1M with planted factors, written from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

NUM_USERS, NUM_ITEMS, NUM_TASTES, DIM = 6040, 3706, 30, 12


def write_interactions(path: Path, seed: int) -> int:
    """Write a CSV of users and items, and return the number of its interactions (about 590 000).

    An item has a popularity (a power law) and a vector of factors; a taste prefers items by popularity and factors. A
    user is a mixture of a few of 30 tastes (Dirichlet, .1) with own deviations, and has a lognormal number of items (20
    to 1000), drawn without replacement. A mixture of preferences is not a linear function of the items that a user has.
    """
    random = np.random.default_rng(seed)
    popularity = random.permutation(-0.9 * np.log(np.arange(NUM_ITEMS) + 10.0))
    factors, tastes = random.normal(size=(NUM_ITEMS, DIM)), random.normal(size=(NUM_TASTES, DIM))
    logits = popularity + (tastes @ factors.T) * (4 / DIM) ** 0.5
    preferences = np.exp(logits - logits.max(1, keepdims=True))
    preferences /= preferences.sum(1, keepdims=True)
    total = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id,item_id\n")
        for user in range(NUM_USERS):
            num = int(np.clip(np.exp(random.normal(4.2, 0.9)), 20, 1000))
            mixture = random.dirichlet(np.full(NUM_TASTES, 0.1)) @ preferences
            own = 0.5 * (random.normal(size=DIM) @ factors.T) / DIM**0.5
            # The largest of log-probabilities with Gumbel noise are a draw without replacement.
            keys = np.log(mixture) + own + random.gumbel(size=NUM_ITEMS)
            items = np.argpartition(-keys, num)[:num]
            file.writelines(f"u{user},i{item}\n" for item in items)
            total += num
    return total
