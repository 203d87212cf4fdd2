"""A finished run from its directory: one interface, whatever it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastvae.data import (
    Data,
    MicroBatch,
    Source,
    evaluation_batches,
    load_examples,
    read_source,
)
from fastvae.data.condition import Value
from fastvae.data.views import take
from fastvae.distributed import Rounds
from fastvae.distributions.priors import prior_noise
from fastvae.evaluate import Evaluation, check_examples
from fastvae.figures import find_renderer
from fastvae.generative import AnyModel, mean_of
from fastvae.models.vae import exploring
from fastvae.ops import noise_key
from fastvae.records import Batch
from fastvae.run import chunks, latents
from fastvae.run.config import RunConfig
from fastvae.run.npz import write_npz

Examples = Any  # "train", "test", a file or folder, a source, or an object in memory (see `read_source`)
_MAX_MEANS = 10_000  # examples whose posterior means say how a latent space lies


@dataclass(frozen=True)
class Rows:
    """Paths through the latent space, each a row of decoded examples."""

    examples: Tensor
    """[R, S, ...]."""
    names: tuple[str, ...]
    """R: what changes along the row."""


@dataclass(frozen=True)
class LoadedRun:
    """A finished run: its configuration, its weights (those that ``evaluate`` uses) and its data.

    Whatever draws noise is given a seed and is a function of it alone. Conditions are named, as in
    ``sample(8, label="3")``; one that the model has and nobody names shows its values in turn.
    """

    directory: Path
    config: RunConfig
    data: Data
    model: nn.Module
    device: torch.device

    def source(self, examples: Examples = "test") -> Source:
        """The examples that a word, a path, a source or an object in memory stands for.

        Args:
            examples: "train" or "test" for the run's own; a file or folder; a ``Source``; or an object of the data's
                kind: arrays, tensors, lists, sparse matrices or Pillow images for pixels and plain numbers, a
                DataFrame for a table, a list of sentences for text, a sparse matrix for interactions.

        Raises:
            ValueError: the examples are unsuitable, or are not like the run's.
            TypeError: an object of another kind; the message has the remedy.
        """
        if isinstance(examples, Source):
            return examples
        if isinstance(examples, str) and examples in ("train", "test"):
            return self.data.train if examples == "train" else self.data.test
        source = read_source(examples, self.data, self.config.data)
        name = str(examples) if isinstance(examples, str | Path) else type(examples).__name__
        check_examples(self.model, self.data, source, name)
        return source

    def batches(self, examples: Examples = "test") -> Iterator[MicroBatch]:
        """The examples in order, with the evaluation's noise keys."""
        return evaluation_batches(
            self.source(examples),
            self.data.preprocess,
            batch_size=self.config.train.eval_batch_size,
            seed=self.config.seed,
            device=self.device,
        )

    def batch(self, indices: Tensor, examples: Examples = "test") -> Batch:
        """Some examples, by their indices int64 [B], as evaluation sees them."""
        source = self.source(examples)
        return load_examples(source, self.data.preprocess, indices, seed=self.config.seed, device=self.device)

    def evaluate(self, num_samples: int = 1) -> Evaluation:
        """ELBO and, with several samples, the importance-weighted bound of the test set, in nats per example."""
        evaluation = chunks.evaluate_run(self, num_samples)
        assert evaluation is not None  # one process has all examples
        return evaluation

    def score(self, examples: Examples = "test", *, num_samples: int = 1) -> Tensor:
        """Of each example, [N] float64 nats: minus the ELBO, or with several samples minus the tighter bound.

        Large is unlikely. Of a model that estimates no ELBO it is the distortion, in its unit. The result is the same
        at every call: the noise is a function of the run's seed and the example's index.

        Raises:
            ValueError: ``num_samples`` is below 1, or a score is not finite.
        """
        return torch.cat(list(chunks.score_chunks(self, examples, num_samples=num_samples)))

    def encode(self, examples: Examples = "test") -> dict[str, Tensor]:
        """Posterior means and log variances ``[N, ...]``, and labels ``[N]`` if the data have them.

        For a model that encodes to a code, or to a posterior of another form, only the means.
        """
        parts = list(chunks.encode_chunks(self, examples))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def decode(self, z: Tensor, *, seed: int | None = None, **condition: Value | None) -> Tensor:
        """Examples of latents [N, ...], as `VAE.generate` gives them.

        A model that writes token after token draws them by a seed; without one it takes the most probable.
        """
        latents.check_shape("decode: z", z, self._able.latent_shape)
        return self._generate(z, self._conditions(len(z), condition), seed)

    def sample(
        self,
        num: int = 64,
        *,
        seed: int = 0,
        shift: Tensor | None = None,
        temperature: float | None = None,
        **condition: Value | None,
    ) -> Tensor:
        """New examples from the prior, [num, ...].

        Args:
            num: how many.
            seed: which ones.
            shift: [...], added to every latent, such as a multiple of `attribute_direction`.
            temperature: of the tokens' draws: below 1 likely ones are preferred; None takes the run's own.
            condition: values of the run's conditions.

        Raises:
            ValueError: the model has no prior or draws no tokens, or a condition is unknown.
        """
        samples = self.sample_chunks(num, seed=seed, shift=shift, temperature=temperature, rounds=None, **condition)
        return chunks.join(samples)

    def sample_chunks(
        self,
        num: int = 64,
        *,
        seed: int = 0,
        shift: Tensor | None = None,
        temperature: float | None = None,
        rounds: Rounds | None = None,
        **condition: Value | None,
    ) -> Iterator[Tensor]:
        """Yield the examples of `sample` in chunks, [B, ...]; the ranks of ``rounds`` share them."""
        self._able.require("draw_prior", "sample")
        latents.check_num("sample", num)
        options = latents.sampling_options(self._able, temperature)

        def draw(rows: int, key: Tensor) -> Tensor:
            z = self._able.draw_prior(rows, key)
            if shift is None:
                return z
            latents.check_shape("sample: shift", shift.unsqueeze(0), tuple(z.shape[1:]))
            return z + shift.to(self.device)

        given = self._conditions(num, condition)
        return chunks.generate_chunks(self, num, draw, condition=given, seed=seed, rounds=rounds, **options)

    def vary(self, example: Examples, num: int = 16, *, strength: float = 0.5, seed: int = 0) -> Tensor:
        """Variations of an example, [num, ...]: its mean latent plus normal noise of that strength.

        Args:
            example: index of a test example, or one example in memory (see `source`), such as ``images[:1]``.
            num: how many.
            strength: standard deviation of the noise.
            seed: which noise.
        """
        return chunks.join(self.vary_chunks(example, num, strength=strength, seed=seed))

    def vary_chunks(
        self,
        example: Examples,
        num: int = 16,
        *,
        strength: float = 0.5,
        seed: int = 0,
        rounds: Rounds | None = None,
    ) -> Iterator[Tensor]:
        """Yield the examples of `vary` in chunks, [B, ...]; the ranks of ``rounds`` share them."""
        latents.check_num("vary", num)
        mu, condition = self._latents_of("vary", example)

        def draw(rows: int, key: Tensor) -> Tensor:
            return latents.perturb(mu[0], prior_noise(rows, tuple(mu.shape[1:]), key), strength)

        given = latents.repeat_condition(condition, num)
        return chunks.generate_chunks(self, num, draw, condition=given, seed=seed, rounds=rounds)

    @torch.no_grad()
    def reconstruct(self, num: int = 24, examples: Examples = "test") -> tuple[Tensor, Tensor]:
        """The first examples and what the model makes of them, each [num, ...]."""
        self._able.require("reconstruct", "reconstruct")
        latents.check_num("reconstruct", num)
        source = self.source(examples)
        batch = self.batch(torch.arange(min(num, len(source))), source)
        return latents.display_target(batch), self._able.reconstruct(batch)

    def interpolate(self, first: Examples, second: Examples, *, steps: int = 9) -> Tensor:
        """On a straight line between the mean latents of two examples, [steps, ...]; their conditions too.

        Args:
            first, second: indices of test examples, or one example in memory each (see `source`).
            steps: points on the line, both ends included.
        """
        (start, old), (stop, new) = (self._latents_of("interpolate", example) for example in (first, second))
        conditions = None if old is None or new is None else exploring.points_between(old[0], new[0], steps)
        return self._generate(exploring.points_between(start[0], stop[0], steps), conditions, seed=None)

    def traverse(
        self,
        dimensions: int = 10,
        *,
        steps: int = 9,
        span: float = 3.0,
        attribute: str | None = None,
        start: int | None = None,
        **condition: Value | None,
    ) -> Rows:
        """Along latent dimensions, or along the direction of an attribute, all else fixed.

        Args:
            dimensions: how many; those whose mean latents vary most over the data. Those of a latent of shape
                [C, H, W] are its elements, by their flattened index.
            steps: examples in a row.
            span: how far to either side, in standard deviations of the mean latents, or in an attribute's mean
                differences.
            attribute: instead of dimensions: see `attribute_direction`.
            start: the test example that the rows pass through; None is the data's mean latent.
            condition: values of the run's conditions, where there is no start; the first of each where not named.
        """
        means = self._means()["mu"]
        if start is not None:
            if any(value is not None for value in condition.values()):
                raise ValueError(f"traverse: start takes the example's own condition; leave out {', '.join(condition)}")
            (base,), given = self._latents(torch.tensor([start]))
        else:
            base, given = means.mean(0).to(self.device), self._conditions(1, condition)
        names: tuple[str, ...]
        if attribute is not None:
            names, directions = (attribute,), self.attribute_direction(attribute).unsqueeze(0)
        else:
            widest = latents.widest_dimensions(means, dimensions)
            names, directions = tuple(f"z{d}" for d in widest), latents.unit_directions(widest, means.std(0))
        z = exploring.points_along(base, directions.to(self.device), steps, span)
        flat = self._generate(z.flatten(0, 1), latents.repeat_condition(given, z.shape[0] * steps), seed=None)
        return Rows(flat.unflatten(0, (len(names), steps)), names)

    def attribute_direction(self, attribute: str) -> Tensor:
        """From the mean latent of the training examples without an attribute to that of those with it, [...].

        Args:
            attribute: ``label=3`` (or ``3``) for a class against all others; the name of a number alone for those
                above its median against the rest.

        Raises:
            ValueError: the data know no such attribute or value, or all examples have it.
        """
        mask = latents.attribute_mask(self.data, attribute)
        means = self._means("train")["mu"]
        return latents.mean_difference(means, mask[: len(means)])

    def save(self, path: Path, examples: Tensor, *, title: str) -> Path:
        """Write examples as a person would look at them; returns where they are."""
        find_renderer(self.data).write_examples(path, examples, self.data, title=f"{self.data.name}: {title}")
        return path

    def save_latents(self, path: Path, examples: Examples = "test", *, rounds: Rounds | None = None) -> Path:
        """Write the result of ``encode`` as an npz file, chunk by chunk, and return its path.

        Args:
            path: the file.
            examples: see `source`.
            rounds: the ranks that share the examples; rank 0 writes. None is this process alone.
        """
        found = chunks.encode_chunks(self, examples, rounds)
        if rounds is not None and not rounds.is_main:
            chunks.drain(found)
        else:
            write_npz(path, found)
        return path

    @torch.no_grad()
    def _generate(self, z: Tensor, condition: Tensor | None, seed: int | None, **how: float) -> Tensor:
        """Examples of latents; without a seed nothing is drawn."""
        key = None if seed is None else noise_key(seed, device=self.device)
        return self._able.generate(z.to(self.device), condition, key, **how)

    @property
    def _able(self) -> AnyModel:
        return AnyModel(self.model)

    def _conditions(self, num: int, values: dict[str, Value | None]) -> Tensor | None:
        named = {name: value for name, value in values.items() if value is not None}
        if self.data.conditions is not None:
            return self.data.conditions.vectors(num, **named).to(self.device)
        if named:
            raise ValueError(f"this model was trained without conditions, got {', '.join(named)}; leave them out")
        return None

    @torch.no_grad()
    def _latents(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean latents [N, ...] and conditions of some test examples."""
        batch = self.batch(indices)
        return mean_of(self._able.encode(batch)), batch.condition

    @torch.no_grad()
    def _latents_of(self, what: str, example: Examples) -> tuple[Tensor, Tensor | None]:
        """Mean latent [1, ...] and condition of a test example by its index, or of one example in memory."""
        if isinstance(example, int | np.integer):
            return self._latents(torch.tensor([int(example)]))
        source = self.source(example)
        if len(source) != 1:
            raise ValueError(f"{what}: must be given one example, got {len(source)}; use x[:1]")
        batch = self.batch(torch.tensor([0]), source)
        return mean_of(self._able.encode(batch)), batch.condition

    def _means(self, split: str = "test") -> dict[str, Tensor]:
        source = self.source(split)
        return self.encode(source if len(source) <= _MAX_MEANS else take(source, torch.arange(_MAX_MEANS)))
