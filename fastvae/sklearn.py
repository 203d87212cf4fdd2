"""A variational autoencoder as a transformer of scikit-learn, on arrays of numbers and on DataFrames."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_is_fitted, validate_data
from torch import Tensor

from fastvae.data import Data
from fastvae.data.objects import is_frame
from fastvae.data.table.columns import Column, RawTable, TableSource
from fastvae.data.table.config import TableConfig
from fastvae.data.table.file import read_frame_table
from fastvae.data.table.tables import learn_columns, table_data
from fastvae.distributed import world_from_environment
from fastvae.models import VAE, ModelConfig, build_model
from fastvae.objective import ObjectiveConfig
from fastvae.ops import LatentSite, Use, noise_key, philox_normal, stream
from fastvae.records import Batch
from fastvae.train import TrainConfig, train

__all__ = ["VAETransformer"]

_CHUNK_ROWS = 4096  # rows that are encoded or scored together: bounds the memory


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Map rows to the mean latents of a variational autoencoder that was trained on them.

    Each column of numbers is scaled robustly and has a Gaussian of learned variance; each column of categories has a
    softmax. Arrays hold numbers only. The columns of a DataFrame of pandas or polars, or of an Arrow table, are
    understood as those of a file are (numbers, dates, truth values, categories), and their missing values are left out
    of the likelihood. What a row becomes does not depend on the other rows of its call.

    Training uses `fastvae.train` in a temporary directory that is removed at its end.

    Args:
        latent_dim: number of latent dimensions.
        hidden_dim: widths of the encoder's hidden layers, or one width; the decoder mirrors them.
        activation: nonlinearity of the hidden layers.
        steps: optimizer steps.
        batch_size: rows in one step; at most all rows are used.
        learning_rate: peak learning rate; it has a cosine schedule.
        kl_weight: weight on the KL divergence; 1 is the ELBO.
        categorical: names of the columns of a DataFrame that hold numbers and are categories.
        num_samples: samples of z that `score_samples` takes for each row.
        device: where to train: auto, cpu or cuda.
        random_state: seed of the initial weights, of the noise and of the order of the rows; None draws one.
        verbose: show the progress of training if it is above 0.

    Attributes:
        model_: the trained `fastvae.VAE`, in float64 on the CPU.
        columns_: how each column becomes numbers.
        n_features_in_: number of columns.
        feature_names_in_: names of the columns, if all are strings.

    Example:
        >>> pipeline = make_pipeline(VAETransformer(latent_dim=4, random_state=0), LogisticRegression())
    """

    def __init__(
        self,
        latent_dim: int = 8,
        *,
        hidden_dim: int | tuple[int, ...] = (64,),
        activation: str = "tanh",
        steps: int = 1000,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        kl_weight: float = 1.0,
        categorical: tuple[str, ...] = (),
        num_samples: int = 20,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.activation = activation
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kl_weight = kl_weight
        self.categorical = categorical
        self.num_samples = num_samples
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> VAETransformer:  # noqa: N803  # scikit-learn's name
        """Train on the rows of ``X`` [N, F]; ``y`` is ignored.

        Raises:
            ValueError: a setting or the rows break a rule, or this is one of several processes of torchrun.
        """
        if world_from_environment("cpu").world_size > 1:
            raise ValueError("VAETransformer: trains in one process, got several; use fastvae.train under torchrun")
        table = self._read(X, reset=True)
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.columns_ = learn_columns(table, self._config, type(self).__name__)
        data = table_data(table, table, self._config, name=type(self).__name__)
        self.model_ = self._train(data)
        return self

    @torch.no_grad()
    def transform(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The mean latents of rows ``X`` [N, F]: [N, latent_dim], float32 for float32 arrays, else float64."""
        check_is_fitted(self)
        means = [self.model_.encode(batch).mu.numpy() for batch in self._batches(X)]
        dtype = np.float32 if isinstance(X, np.ndarray) and X.dtype == np.float32 else np.float64
        return np.concatenate(means).astype(dtype)

    @torch.no_grad()
    def inverse_transform(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The rows of latents ``X`` [N, latent_dim], in the units of the columns: [N, F].

        They are float64, or objects if there are categories: of each the most probable one.
        """
        check_is_fitted(self)
        z = np.asarray(X, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self._n_features_out:
            raise ValueError(f"VAETransformer: latents must be [N, {self._n_features_out}], got shape {list(z.shape)}")
        decoded = [self.model_.decode(part).mean.numpy() for part in torch.from_numpy(z).split(_CHUNK_ROWS)]
        edges = np.cumsum([column.width for column in self.columns_])[:-1]
        parts = np.split(np.concatenate(decoded), edges, axis=1)
        columns = [_in_units(column, part) for column, part in zip(self.columns_, parts, strict=True)]
        kind = object if any(column.categories is not None for column in self.columns_) else np.float64
        return np.stack([column.astype(kind) for column in columns], axis=1)

    @torch.no_grad()
    def score_samples(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """The importance-weighted bound on log p(x) of each row in nats, [N]; small for an unlikely row.

        It takes ``num_samples`` samples of z, with the same noise for every row.
        """
        check_is_fitted(self)
        noise = self._noise()
        return np.concatenate([self._bounds(batch, noise).numpy() for batch in self._batches(X)])

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """The mean of `score_samples` in nats, by which `GridSearchCV` chooses; ``y`` is ignored."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        """The number of latent dimensions, from which scikit-learn names them."""
        return int(self.model_.latent_dim or 0)

    @property
    def _config(self) -> TableConfig:
        return TableConfig(find_label=False, categorical=tuple(self.categorical))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def _read(self, rows: Any, *, reset: bool) -> RawTable:
        """The rows as a table: a DataFrame by its columns, anything else as numbers."""
        if reset:
            self._reads_frames = is_frame(rows)
        if self._reads_frames and is_frame(rows):
            _check_feature_names(self, rows, reset=reset)
            _check_n_features(self, rows, reset=reset)
            columns = () if reset else self.columns_
            return read_frame_table(rows, type(self).__name__, self._config, columns)
        if reset and self.categorical:
            raise ValueError(
                f"VAETransformer: categorical names columns of a DataFrame, got {type(rows).__name__}; leave it out"
            )
        if not reset and any(column.categories is not None for column in self.columns_):
            raise ValueError(
                f"VAETransformer: was fitted on a DataFrame with categories, got {type(rows).__name__}; give one"
            )
        array = validate_data(self, rows, dtype=np.float64, reset=reset)
        names = [f"x{place}" for place in range(array.shape[1])] if reset else [each.name for each in self.columns_]
        return RawTable(dict(zip(names, array.T, strict=True)), None)

    def _train(self, data: Data) -> VAE:
        """A VAE that was trained on all rows, in float64 on the CPU."""
        model = build_model(
            ModelConfig(
                latent_dim=self.latent_dim,
                hidden_dim=_widths(self.hidden_dim),
                activation=self.activation,  # type: ignore[arg-type]  # checked by ModelConfig
                likelihood="table",
                likelihood_logvar_start=-1.0,
                likelihood_logvar_floor=-6.0,
            ),
            data.model_inputs,
            seed=self._seed,
        )
        config = TrainConfig(
            steps=self.steps,
            global_batch_size=min(self.batch_size, len(data.train)),
            lr=self.learning_rate,
            objective=ObjectiveConfig(kl_weight=self.kl_weight),
            device=self.device,  # type: ignore[arg-type]  # checked by TrainConfig
            checkpoint_every=None,
            final_samples=1,
            progress=self.verbose > 0,
            pictures=False,
        )
        with tempfile.TemporaryDirectory(prefix="fastvae-sklearn-") as directory:
            run = train(model, data, config, run_dir=Path(directory) / "run", seed=self._seed)
        if run.signal is not None:
            raise KeyboardInterrupt(f"VAETransformer: training was stopped by signal {run.signal} at step {run.step}")
        assert isinstance(run.model, VAE)
        return run.model.cpu().double().eval()

    def _batches(self, rows: Any) -> Any:
        """Rows as the model reads them, a few thousand at a time."""
        table = self._read(rows, reset=False)
        source = TableSource(table, self.columns_, self._config.clip, name=type(self).__name__)
        for indices in torch.arange(len(source)).split(_CHUNK_ROWS):
            raw = source[indices].double()
            is_missing = raw.isnan()
            x = raw.masked_fill(is_missing, 0.0)
            yield Batch(x=x, target=x, mask=~is_missing)

    def _noise(self) -> Tensor:
        """Standard normal numbers [K, 1, D], from the noise of evaluation."""
        if self.num_samples < 1:
            raise ValueError(f"VAETransformer: num_samples must be at least 1, got {self.num_samples}")
        key, use = noise_key(self._seed), stream(Use.LATENT, LatentSite.Z, evaluation=True)
        return philox_normal(key, self.num_samples, self._n_features_out, stream=use).double().unsqueeze(1)

    def _bounds(self, batch: Batch, noise: Tensor) -> Tensor:
        """The bound log mean_k p(x|z_k) p(z_k) / q(z_k|x), [B] (Burda et al. 2016, arXiv 1509.00519, equation 8)."""
        posterior = self.model_.encode(batch)
        z = posterior.mu + noise * (0.5 * posterior.logvar).exp()
        log_ratio = 0.5 * (noise.square() + posterior.logvar - z.square()).sum(-1)  # log p(z) - log q(z|x)
        log_weights = self.model_.decode(z, batch).log_prob(batch.target, mask=batch.mask) + log_ratio
        return torch.logsumexp(log_weights, 0) - math.log(self.num_samples)


def _widths(hidden_dim: int | tuple[int, ...]) -> tuple[int, ...]:
    """The widths of the hidden layers: a number, of Python or NumPy, is that of one layer."""
    return tuple(np.atleast_1d(hidden_dim).tolist())


def _in_units(column: Column, encoded: NDArray[np.float64]) -> NDArray[Any]:
    """The values [N] of a column's places in the model's output [N, width]."""
    if column.categories is None:
        return encoded[:, 0] * column.scale + column.center
    known = max(1, column.width - 1)  # the last place is that of other categories, which no training row has
    return np.array(column.categories, dtype=object)[encoded[:, :known].argmax(1)]
