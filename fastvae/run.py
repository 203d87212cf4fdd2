"""A whole run from its configuration, and a finished run from its directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import dacite
import numpy as np
import safetensors.torch
import torch
import tyro
import yaml
from torch import Tensor, nn

from fastvae.data import Data, DataConfig, MicroBatch, build_data, evaluation_batches
from fastvae.evaluate import Evaluation, evaluate
from fastvae.models import ModelConfig, ModelInputs, build_model
from fastvae.train import Run, TrainConfig, train
from fastvae.train.results import WEIGHTS, read_data_state, write_reconstructions, write_samples


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run. A recipe is a function that returns one; the command line changes its fields."""

    recipe: Annotated[str, tyro.conf.Suppress] = "custom"
    """Name of the recipe that this came from."""
    run_dir: Path | None = None
    """Where the run writes everything; None is runs/RECIPE."""
    seed: int = 0
    """Decides initial weights, noise and the order of the examples."""
    model: ModelConfig
    """The model."""
    data: DataConfig
    """The data."""
    train: TrainConfig
    """The training."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be in 0..2**32 - 1, got {self.seed}")

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.run_dir if self.run_dir is not None else Path("runs") / self.recipe


def start(config: RunConfig) -> Run:
    """Build data and model as ``config`` says and train; all ranks call it alike. Source of ``fastvae train``."""
    data = build_data(config.data, config.seed)
    description = {name: value for name, value in asdict(config).items() if name not in ("train", "run_dir")}
    return train(
        build_run_model(config, data),
        data,
        config.train,
        run_dir=config.directory,
        seed=config.seed,
        description=description,
    )


def build_run_model(config: RunConfig, data: Data) -> nn.Module:
    """The model with its initial weights, the output starting at the train set's mean example."""
    return build_model(config.model, model_inputs(data), seed=config.seed, mean=data.train_mean)


def model_inputs(data: Data) -> ModelInputs:
    """What a model must know of the data."""
    return ModelInputs(event_shape=data.event_shape, condition_dim=data.condition_dim, **data.inputs)


@dataclass(frozen=True)
class LoadedRun:
    """A finished run: its configuration, its weights (those that ``evaluate`` uses) and its data."""

    directory: Path
    config: RunConfig
    data: Data
    model: nn.Module
    device: torch.device

    def batches(self, split: str = "test") -> Iterator[MicroBatch]:
        """The examples of a split in order, with the evaluation's noise keys."""
        if split not in ("train", "test"):
            raise ValueError(f"split must be train or test, got {split!r}")
        return evaluation_batches(
            self.data.train if split == "train" else self.data.test,
            self.data.preprocess,
            batch_size=self.config.train.eval_batch_size,
            seed=self.config.seed,
            device=self.device,
        )

    @torch.no_grad()
    def evaluate(self, num_samples: int = 1) -> Evaluation:
        """ELBO and, with several samples, the importance-weighted bound of the test set, in nats per example."""
        return evaluate(
            self.model,
            self.batches(),
            num_samples=num_samples,
            log_jacobian_nats=self.data.log_jacobian_nats,
            event_numel=self.data.event_numel,
        )

    @torch.no_grad()
    def encode(self, split: str = "test") -> dict[str, Tensor]:
        """Posterior means and log variances ``[N, D]``, and labels ``[N]`` where the data have them."""
        posteriors = [self.model.encode(micro.batch) for micro in self.batches(split)]  # type: ignore[operator]
        codes = [p if isinstance(p, Tensor) else p.mu for p in posteriors]
        latents = {"mu": torch.cat(codes).float().cpu()}
        if not isinstance(posteriors[0], Tensor):
            latents["logvar"] = torch.cat([p.logvar for p in posteriors]).float().cpu()
        labels = (self.data.train if split == "train" else self.data.test).labels
        return latents if labels is None else {**latents, "label": labels}

    def save_samples(self, path: Path | None = None, *, num: int = 64, seed: int = 0) -> Path:
        """Draw new examples as a picture (``samples.png`` of the run directory); returns where it is."""
        path = self.directory / "samples.png" if path is None else path
        write_samples(path, self.model, self.data, num=num, seed=seed)
        return path

    def save_reconstructions(self, path: Path | None = None, *, num: int = 24) -> Path:
        """Draw test examples above their reconstructions (``reconstructions.png``); returns where it is."""
        path = self.directory / "reconstructions.png" if path is None else path
        write_reconstructions(path, self.model, self.data, num=num, seed=self.config.seed)
        return path

    def save_latents(self, path: Path, *, split: str = "test") -> Path:
        """Write what ``encode`` gives as an npz file; returns where it is."""
        arrays = {name: tensor.numpy() for name, tensor in self.encode(split).items()}
        np.savez(path, allow_pickle=False, **arrays)
        return path


def read_config(directory: Path) -> RunConfig:
    """The configuration that a run directory holds.

    Raises:
        ValueError: there is none, or it is not one of this version's; the message says what is wrong.
    """
    path = directory / "config.yaml"
    try:
        fields: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{directory} holds no run: {path.name} is missing; `fastvae train RECIPE` makes one"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict) or fields.get("model") is None or fields.get("data") is None:
        raise ValueError(
            f"{path} does not describe model and data: the run was started from Python with its own; "
            "build the model there and load model.safetensors into it"
        )
    try:
        return dacite.from_dict(RunConfig, fields, dacite.Config(cast=[Path, tuple], strict=True))
    except (dacite.DaciteError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def load(directory: str | Path, *, device: str | torch.device = "cpu") -> LoadedRun:
    """A finished run, with the weights that its evaluation used.

    Raises:
        ValueError: the directory holds no finished run.
    """
    directory = Path(directory)
    config = read_config(directory)
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{directory} has no {weights.name} yet: the run is not finished; run its command again")
    device = torch.device(device)
    data = build_data(config.data, config.seed, read_data_state(directory))
    model = build_model(config.model, model_inputs(data), seed=config.seed)
    try:
        safetensors.torch.load_model(model, weights)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{weights} does not fit the model of config.yaml: {' '.join(str(error).split())}") from None
    model.to(device).eval()
    return LoadedRun(directory=directory, config=config, data=data, model=model, device=device)
