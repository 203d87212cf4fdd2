"""A recommender's run follows NDCG@100 on its validation users."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fastvae
from fastvae.data import Data, hold_out
from fastvae.data.interactions.recommendation import interaction_data
from fastvae.data.interactions.source import InteractionSource
from fastvae.evaluate.ranking import evaluate_ranking, model_scorer
from tests import runs


def users(num: int, seed: int) -> InteractionSource:
    """Users who have items of one half of the catalogue."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(num).repeat_interleave(12)
    items = torch.randint(0, 30, rows.shape, generator=generator) + (rows % 2) * 30
    return InteractionSource.from_pairs(rows, items, num, 60)


@pytest.fixture
def data() -> Data:
    return hold_out(interaction_data("users", users(120, 0), users(40, 1), {}), 0.25)


def recommender() -> torch.nn.Module:
    config = fastvae.ModelConfig(
        family="recommender", network="mult-vae", likelihood="multinomial", hidden_dim=(), latent_dim=4
    )
    return fastvae.build_model(config, (60,))


def test_the_weights_of_the_highest_ndcg_are_kept(data: Data, tmp_path: Path) -> None:
    config = fastvae.TrainConfig(
        **{**runs.SMALL, "lr": 0.05},  # type: ignore[arg-type]
        schedule="constant",
        steps=60,
        eval_every=3,
        keep_best=True,
        validation_metric="ndcg_100",
        early_stopping=fastvae.train.EarlyStoppingConfig(patience=4),
        objective=fastvae.ObjectiveConfig(kl_schedule="linear", kl_warmup="100%"),
    )
    run = fastvae.train(recommender(), data, config, run_dir=tmp_path)
    found = {record["step"]: record["ndcg_100"] for record in runs.metrics(tmp_path, "validation")}
    best = max(found, key=lambda step: found[step])  # the first of equals
    assert run.step == best + 12 < 60
    assert "no higher validation ndcg_100 at 4 evaluations" in runs.status(tmp_path)["reason"]
    model = run.model.eval()
    assert data.validation is not None
    assert evaluate_ranking(model_scorer(model), data.validation).ndcg_100.mean == pytest.approx(found[best])
    assert run.evaluation is not None
    assert run.evaluation.ndcg_100 == evaluate_ranking(model_scorer(model), data.test).ndcg_100.mean


def test_only_recommenders_have_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.validation_metric=ndcg_100 requires a recommender, got .* pixels"):
        runs.train(tmp_path, steps=2, validation_metric="ndcg_100")
