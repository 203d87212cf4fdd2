"""Loggers: TensorBoard, and Weights & Biases and MLflow without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

import fastvae
from fastvae.train.run_dir import loggers
from fastvae.train.run_dir.run_dir import RunDir
from tests import launching, runs

WORKER = Path(__file__).with_name("loggers_worker.py")


class Broken:
    """A logger whose server is away."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        pass

    def scalars(self, kind: str, step: int, values: object) -> None:
        raise ConnectionError("no route to host")

    def show(self, name: str, path: Path, step: int) -> None:
        raise ConnectionError("no route to host")

    def close(self) -> None:
        raise ConnectionError("no route to host")


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"mlflow requires the package.*fastvae\[loggers\]"):
        runs.train(tmp_path, steps=1, loggers=("mlflow",))
    with pytest.raises(ValueError, match="loggers must be one of tensorboard, wandb, mlflow, got 'neptune'"):
        fastvae.TrainConfig(loggers=("neptune",))  # type: ignore[arg-type]


def test_a_logger_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(loggers.LOGGERS, "wandb", Broken)
    monkeypatch.setattr(loggers, "find_spec", lambda name: name)
    run = runs.train(tmp_path, steps=3, log_every=1, loggers=("wandb",))
    assert run.status == "done"
    said = capsys.readouterr().err
    assert said.count("logger wandb failed and gets no more metrics (ConnectionError: no route to host)") == 1
    assert len(runs.metrics(tmp_path, "train")) == 3


@pytest.mark.slow  # installs packages
def test_wandb_and_mlflow_offline(tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True, symlinks=True)
    python = place / "bin" / "python"
    site = next((place / "lib").glob("python*/site-packages"))
    (site / "base.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "wandb", "mlflow-skinny"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"wandb and mlflow-skinny could not be installed: {done.stderr.strip().splitlines()[-1]}")
    away = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "PYTHONPATH": str(launching.ROOT),
    }
    run_dir = tmp_path / "run"
    trained = subprocess.run(
        [str(python), str(WORKER), str(run_dir)],
        env={**os.environ, **away},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "gets no more metrics" not in trained.stderr
    ids = json.loads(RunDir(run_dir).logger_ids.read_text())
    [tracked] = (tmp_path / "mlruns").glob(f"*/{ids['mlflow']}")
    lines = (tracked / "metrics" / "train" / "loss_nats").read_text().splitlines()
    steps = [int(line.split()[2]) for line in lines]
    assert set(steps) == set(range(1, 9))
    assert (tracked / "params" / "train.lr").read_text() == "0.001"
    assert list(tracked.rglob("samples.png"))
    files = list(run_dir.glob(f"wandb/offline-run-*-{ids['wandb']}/run-{ids['wandb']}.wandb"))
    assert len(files) == 2  # one for each start of the same run
    assert all(b"train/loss_nats" in file.read_bytes() for file in files)
