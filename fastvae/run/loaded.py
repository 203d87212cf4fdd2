"""A finished run from its directory: one interface, whatever it was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
from fastvae.evaluate import Evaluation, check_examples
from fastvae.figures import find_renderer
from fastvae.generative import AnyModel
from fastvae.models.vae import exploring
from fastvae.records import Batch
from fastvae.run import chunks, generated, latents
from fastvae.run.chunks import Examples
from fastvae.run.config import RunConfig
from fastvae.run.npz import write_npz

_MAX_MEANS = 10_000  # examples whose posterior means describe the latent space


@dataclass(frozen=True)
class Rows:
    """Paths through the latent space, each a row of decoded examples."""

    examples: Tensor
    """[R, S, ...]."""
    names: tuple[str, ...]
    """R names of the dimensions or the attribute that change along the rows."""


@dataclass(frozen=True)
class LoadedRun:
    """A finished run: its configuration, its weights (those that ``evaluate`` uses) and its data.

    Methods that draw noise take a seed, and their results depend on no other random state. Conditions are given by
    name, as in ``sample(8, label="3")``; a condition that is not given cycles through its values.

    Under a launcher such as torchrun, every process that calls a method computes the whole result on its own device;
    the commands, such as `fastvae score`, share the examples between the processes.
    """

    directory: Path
    config: RunConfig
    data: Data
    model: nn.Module
    device: torch.device

    def source(self, examples: Examples = "test") -> Source:
        """Return examples as a source.

        Args:
            examples: "train", "validation" or "test" for the run's own; a file or folder; a ``Source``; or an object of
                the data's kind: arrays, tensors, lists, sparse matrices or Pillow images for pixels and plain numbers,
                a DataFrame for a table, a list of sentences for text, a sparse matrix for interactions.

        Raises:
            ValueError: the examples are unsuitable, or are not like the run's.
            TypeError: an object of another kind; the message has the remedy.
        """
        if isinstance(examples, Source):
            return examples
        if isinstance(examples, str) and examples in ("train", "validation", "test"):
            own: Source | None = getattr(self.data, examples)
            if own is None:
                raise ValueError(f"{self.directory} has no validation examples; train or test are its own examples")
            return own
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
        return generated.generate(self, z, generated.condition_vectors(self, len(z), condition), seed)

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
            num: number of examples.
            seed: seed of the noise.
            shift: [...], added to every latent, such as a multiple of `attribute_direction`.
            temperature: temperature of tokens: below 1 likely tokens are preferred; None is that of the run.
            condition: values of the run's conditions.

        Raises:
            ValueError: the model has no prior, the temperature is for a model that draws no tokens, a condition is
                unknown, or a user's prior repeats its latents.
        """
        found = generated.sample_chunks(self, num, condition, seed=seed, shift=shift, temperature=temperature)
        return generated.join(found).to(self.device)

    def vary(self, example: Examples, num: int = 16, *, strength: float = 0.5, seed: int = 0) -> Tensor:
        """Variations of an example, [num, ...]: its mean latent plus normal noise of that strength.

        Args:
            example: index of a test example, or one example in memory (see `source`), such as ``images[:1]``.
            num: number of variations.
            strength: standard deviation of the noise.
            seed: seed of the noise.
        """
        found = generated.vary_chunks(self, example, num, strength=strength, seed=seed)
        return generated.join(found).to(self.device)

    @torch.no_grad()
    def reconstruct(self, num: int = 24, examples: Examples = "test") -> tuple[Tensor, Tensor]:
        """The first examples and their reconstructions, each [num, ...]."""
        self._able.require("reconstruct", "reconstruct")
        latents.check_num("reconstruct", num)
        source = self.source(examples)
        batch = self.batch(torch.arange(min(num, len(source))), source)
        return latents.display_target(batch), self._able.reconstruct(batch)

    def interpolate(self, first: Examples, second: Examples, *, steps: int = 9) -> Tensor:
        """Decoded points on the straight line between the mean latents (and conditions) of two examples, [steps, ...].

        Args:
            first, second: indices of test examples, or one example in memory each (see `source`).
            steps: number of points, both ends included.
        """
        (start, old), (stop, new) = (generated.latents_of(self, "interpolate", example) for example in (first, second))
        conditions = None if old is None or new is None else exploring.points_between(old[0], new[0], steps)
        return generated.generate(self, exploring.points_between(start[0], stop[0], steps), conditions, seed=None)

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
        """Decoded rows along latent dimensions, or along the direction of an attribute.

        Args:
            dimensions: number of dimensions; those whose mean latents vary most over the data are used. The dimensions
                of a latent of shape [C, H, W] are its elements, by their flattened index.
            steps: examples per row.
            span: half the length of a row, in standard deviations of the mean latents, or in mean differences of an
                attribute.
            attribute: used instead of dimensions, see `attribute_direction`.
            start: test example at the centre of the rows; None is the mean latent of the data.
            condition: values of the run's conditions if there is no start; the default is the first value of each.
        """
        means = self._means()["mu"]
        if start is not None:
            if any(value is not None for value in condition.values()):
                raise ValueError(f"traverse: start takes the example's own condition; leave out {', '.join(condition)}")
            (base,), given = generated.mean_latents(self, torch.tensor([start]))
        else:
            base, given = means.mean(0).to(self.device), generated.condition_vectors(self, 1, condition)
        names: tuple[str, ...]
        if attribute is not None:
            names, directions = (attribute,), self.attribute_direction(attribute).unsqueeze(0)
        else:
            widest = latents.widest_dimensions(means, dimensions)
            names, directions = tuple(f"z{d}" for d in widest), latents.unit_directions(widest, means.std(0))
        z = exploring.points_along(base, directions.to(self.device), steps, span)
        flat = generated.generate(self, z.flatten(0, 1), latents.repeat_condition(given, z.shape[0] * steps), seed=None)
        return Rows(flat.unflatten(0, (len(names), steps)), names)

    def attribute_direction(self, attribute: str) -> Tensor:
        """Mean latent of the training examples with an attribute minus that of the examples without it, [...].

        Args:
            attribute: ``label=3`` (or ``3``) for a class against all others; the name of a numeric attribute for
                values above its median against the rest.

        Raises:
            ValueError: the data have no such attribute or value, or all examples have it.
        """
        mask = latents.attribute_mask(self.data, attribute)
        means = self._means("train")["mu"]
        return latents.mean_difference(means, mask[: len(means)])

    def save(self, path: Path, examples: Tensor, *, title: str) -> Path:
        """Write examples as images, text, WAV files or a table, and return the path."""
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

    @property
    def _able(self) -> AnyModel:
        return AnyModel(self.model)

    def _means(self, split: str = "test") -> dict[str, Tensor]:
        source = self.source(split)
        return self.encode(source if len(source) <= _MAX_MEANS else take(source, torch.arange(_MAX_MEANS)))
