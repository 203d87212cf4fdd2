"""The validation set, and the callbacks that follow it: early stopping, best weights, plateaus, a user's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import fastvae
from fastvae.data import hold_out
from fastvae.evaluate import Evaluation
from fastvae.train import Callback, RunView
from fastvae.train.run_dir.run_dir import RunDir
from tests import runs
from tests.signals import wait_until_read


class Losses(Callback):
    """Replaces the losses of evaluations by those of a list."""

    def __init__(self, losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        monkeypatch.setattr(Evaluation, "loss", lambda evaluation, kl_weight: losses[len(self.seen)])

    def on_evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        self.seen.append(run.step)


class Recorder(Callback):
    """Records the calls; a number in its state counts the steps."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.calls: list[str] = []
        self.count, self.kill_at = 0, kill_at

    def on_start(self, run: RunView) -> None:
        self.calls.append(f"start {run.step}")

    def on_step(self, run: RunView) -> None:
        self.count += 1
        if run.step == self.kill_at:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_until_read()

    def on_log(self, run: RunView) -> None:
        assert run.metrics["loss_nats"] is not None

    def on_evaluation(self, run: RunView, evaluation: Evaluation) -> None:
        self.calls.append(f"evaluation {run.step} {evaluation.num_examples}")

    def on_checkpoint(self, run: RunView) -> None:
        self.calls.append(f"checkpoint {run.step}")

    def on_end(self, run: RunView) -> None:
        self.calls.append(f"end {run.step} {run.epoch:.3g} {run.num_examples}")

    def state_dict(self) -> Mapping[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(RunDir(run_dir).weights)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_validation_set_is_fixed_and_apart() -> None:
    data = runs.digits()
    held = hold_out(data, 0.05)
    assert held.validation is not None
    assert (len(held.train), len(held.validation), len(held.test)) == (1365, 72, len(data.test))
    rows = [source[torch.arange(len(source))].flatten(1) for source in (held.train, held.validation)]
    every = data.train[torch.arange(len(data.train))].flatten(1)
    together = torch.cat(rows)
    assert torch.equal(together.unique(dim=0, return_counts=True)[1], every.unique(dim=0, return_counts=True)[1])
    again = hold_out(data, 0.05).validation
    assert again is not None
    assert torch.equal(again[torch.arange(72)], held.validation[torch.arange(72)])
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
            hold_out(data, share)


def test_evaluations_use_the_validation_set_and_the_end_uses_the_test_set(tmp_path: Path) -> None:
    data = hold_out(runs.digits(), 0.1)
    assert data.validation is not None
    run = runs.train(tmp_path, data=data, steps=4, eval_every=2)
    assert [record["num_examples"] for record in runs.metrics(tmp_path, "validation")] == [len(data.validation)] * 2
    assert runs.metrics(tmp_path, "evaluation") == []
    assert run.evaluation is not None
    assert run.evaluation.num_examples == len(data.test)


def test_every_line_has_epochs_and_examples(tmp_path: Path) -> None:
    runs.train(tmp_path, steps=4, log_every=2, eval_every=2)
    last = runs.metrics(tmp_path, "train")[-1]
    assert last["examples"] == 64
    assert last["epoch"] == pytest.approx(64 / len(runs.digits().train))
    assert all("epoch" in record and "examples" in record for record in runs.metrics(tmp_path))


def test_a_run_stops_after_evaluations_without_a_lower_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = Losses([5.0, 4.0, 4.5, 4.2, 3.0], monkeypatch)
    config = fastvae.TrainConfig(
        **runs.SMALL,  # type: ignore[arg-type]
        steps=100,
        eval_every=3,
        keep_best=True,
        early_stopping=fastvae.train.EarlyStoppingConfig(patience=2),
    )
    run = fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path, callbacks=[losses])
    assert (run.status, run.step) == ("done", 12)
    assert "no lower validation loss at 2 evaluations" in runs.status(tmp_path)["reason"]
    monkeypatch.undo()
    best = runs.train(tmp_path / "six", data=hold_out(runs.digits(), 0.05), steps=6, lr=1e-3, schedule="constant")
    again = fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path)
    assert (again.status, again.step) == ("done", 12)  # the same command does not go on
    assert again.evaluation == run.evaluation
    assert best.step == 6
    patient = replace(config, early_stopping=fastvae.train.EarlyStoppingConfig(patience=None))
    assert fastvae.train(runs.small_vae(), runs.digits(), patient, run_dir=tmp_path).step == 100
    assert "the checkpoint has the state of EarlyStopping, " in capsys.readouterr().err


def test_the_best_weights_are_evaluated_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"steps": 8, "eval_every": 2, "schedule": "constant", "ema": 0.5}
    data = hold_out(runs.digits(), 0.05)
    runs.train(tmp_path / "four", data=data, **{**settings, "steps": 4})
    losses = Losses([5.0, 3.0, float("nan"), 4.0], monkeypatch)
    config = fastvae.TrainConfig(**runs.SMALL, **settings, keep_best=True)  # type: ignore[arg-type]
    fastvae.train(runs.small_vae(), data, config, run_dir=tmp_path / "best", callbacks=[losses])
    assert equal(weights(tmp_path / "best"), weights(tmp_path / "four"))
    exported = tmp_path / "exported.safetensors"
    assert fastvae.train.export_weights(tmp_path / "best", exported) == 4
    assert equal(load_file(exported), weights(tmp_path / "four"))


def test_evaluations_during_a_kl_warm_up_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses([0.0, 0.0, 4.0, 3.0], monkeypatch)
    objective = fastvae.ObjectiveConfig(kl_schedule="linear", kl_warmup=5)
    config = fastvae.TrainConfig(
        **runs.SMALL,  # type: ignore[arg-type]
        steps=8,
        eval_every=2,
        keep_best=True,
        objective=objective,
    )
    fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path, callbacks=[losses])
    assert fastvae.train.export_weights(tmp_path, tmp_path / "exported.safetensors") == 8


def test_a_plateau_lowers_the_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Losses([5.0, 5.0, 5.0, 5.0, 5.0], monkeypatch)
    plateau = fastvae.train.PlateauConfig(patience=2, factor=0.1, min_factor=0.05)
    config = fastvae.TrainConfig(
        **runs.SMALL,  # type: ignore[arg-type]
        steps=10,
        eval_every=2,
        log_every=1,
        schedule="constant",
        plateau=plateau,
    )
    fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path, callbacks=[losses])
    rates = [record["lr"] for record in runs.metrics(tmp_path, "train")]
    assert rates == pytest.approx([1e-3] * 6 + [1e-4] * 4)


def test_a_users_callback_is_called_and_its_state_is_saved(tmp_path: Path) -> None:
    config = fastvae.TrainConfig(**runs.SMALL, steps=9, eval_every=6)  # type: ignore[arg-type]
    stopped, resumed = Recorder(kill_at=2), Recorder()
    arguments = {"run_dir": tmp_path, "data": runs.digits(), "config": config}
    run = fastvae.train(runs.small_vae(), callbacks=[stopped], **arguments)
    assert run.status == "preempted"
    assert stopped.calls == ["start 0", f"checkpoint {run.step}"]
    fastvae.train(runs.small_vae(), callbacks=[resumed], **arguments)
    num_tested = len(runs.digits().test)
    assert resumed.calls == [
        f"start {run.step}",
        f"evaluation 6 {num_tested}",
        "checkpoint 9",
        "end 9 0.1 144",
    ]
    assert resumed.count == 9


def test_stop_and_resume_change_nothing(tmp_path: Path) -> None:
    settings = {"steps": 30, "eval_every": 3, "lr": 0.05, "schedule": "constant", "keep_best": True}
    patience = {
        "early_stopping": fastvae.train.EarlyStoppingConfig(patience=4),
        "plateau": fastvae.train.PlateauConfig(patience=2),
    }
    config = fastvae.TrainConfig(**runs.SMALL, **settings, **patience)  # type: ignore[arg-type]
    whole = fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path / "whole")
    for kill_at in (4, 11):
        part = fastvae.train(
            runs.small_vae(), runs.digits(), config, run_dir=tmp_path / "parts", callbacks=[Recorder(kill_at)]
        )
        assert part.status == "preempted"
    parts = fastvae.train(runs.small_vae(), runs.digits(), config, run_dir=tmp_path / "parts", callbacks=[Recorder()])
    assert (parts.step, parts.evaluation) == (whole.step, whole.evaluation)
    assert equal(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    kept = [
        [{name: value for name, value in record.items() if name != "examples_per_s"} for record in runs.metrics(path)]
        for path in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert [record for record in kept[0] if record["kind"] != "train"] == [
        record for record in kept[1] if record["kind"] != "train"
    ]


def test_callbacks_that_are_none_or_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names, got Recorder twice"):
        fastvae.train(runs.small_vae(), runs.digits(), run_dir=tmp_path, callbacks=[Recorder(), Recorder()])
    with pytest.raises(TypeError, match="objects of subclasses"):
        fastvae.train(runs.small_vae(), runs.digits(), run_dir=tmp_path, callbacks=[Recorder])  # type: ignore[list-item]


def test_pictures_are_shown_in_tensorboard(tmp_path: Path) -> None:
    runs.train(tmp_path, steps=4, eval_every=1, pictures_every=2)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(RunDir(tmp_path).tensorboard)).Reload()
    assert sorted(board.Tags()["images"]) == ["reconstructions", "samples"]
    assert [event.step for event in board.Images("samples")] == [2, 4]


def test_a_run_without_loggers_has_its_metrics_only(tmp_path: Path) -> None:
    runs.train(tmp_path, steps=2, loggers=())
    assert not RunDir(tmp_path).tensorboard.exists()
    assert runs.metrics(tmp_path, "train")
