"""Posterior collapse is detected: a decoder that ignores z at several evaluations in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import fastvae
from fastvae.train.watch.collapse import CollapseConfig
from tests import runs
from tests.runs import metrics


def train(run_dir: Path, kl_weight: float, **settings: Any) -> None:
    objective = fastvae.ObjectiveConfig(kl_weight=kl_weight)
    options = {"lr": 1e-2, "global_batch_size": 64, "eval_every": 20, "checkpoint_every": 20, "objective": objective}
    runs.train(run_dir, runs.small_vae(latent_dim=20), **options, **settings)


def test_posterior_collapse_is_reported_once_and_counted_across_a_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, 1000.0, steps=40)
    assert "at the last 3 evaluations" not in capsys.readouterr().err
    train(tmp_path, 1000.0, steps=120)
    said = capsys.readouterr().err
    assert said.count("posterior collapse") == 1
    assert said.count("posterior collapse: 0 of 20 latent units were active at the last 3 evaluations") == 1
    assert "--train.objective.kl-schedule linear" in said
    [warning] = metrics(tmp_path, "posterior_collapse")
    assert (warning["step"], warning["active_units"], warning["latent_units"]) == (60, 0, 20)


def test_a_run_without_evaluations_reports_collapse_at_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"lr": 1e-2, "global_batch_size": 64, "objective": fastvae.ObjectiveConfig(kl_weight=1000.0)}
    runs.train(tmp_path / "collapsed", runs.small_vae(latent_dim=20), steps=60, **options)
    said = capsys.readouterr().err
    assert said.count("posterior collapse: 0 of 20 latent units were active at the final evaluation") == 1
    options["objective"] = fastvae.ObjectiveConfig(kl_weight=0.01)
    runs.train(tmp_path / "used", runs.small_vae(latent_dim=20), steps=60, **options)
    assert "posterior collapse" not in capsys.readouterr().err


def test_a_run_with_active_latents_is_not_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, 0.01, steps=80)
    assert "posterior collapse" not in capsys.readouterr().err
    assert not metrics(tmp_path, "posterior_collapse")
    evaluation = metrics(tmp_path, "evaluation")[-1]
    assert len(evaluation["kl_per_dimension_nats"]) == 20
    assert sum(evaluation["kl_per_dimension_nats"]) == pytest.approx(evaluation["rate_nats"], rel=1e-5)
    assert 1 < evaluation["mutual_information_nats"] <= torch.tensor(360.0).log()


@pytest.mark.parametrize(("min_active", "evaluations"), [(0.0, 3), (1.5, 3), (float("nan"), 3), (0.1, 0)])
def test_settings_are_checked(min_active: float, evaluations: int) -> None:
    with pytest.raises(ValueError, match=r"train\.collapse\."):
        CollapseConfig(min_active=min_active, evaluations=evaluations)
