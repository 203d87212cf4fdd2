"""Export a part of a finished run as one file for other programs: weights, a PyTorch program (pt2), or ONNX.

A program contains the preprocessing of pixels and of tables, generates its noise by the same counters as fastvae, and
does not require fastvae: the fused operators in it are replaced by their formulas in plain PyTorch.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from fastvae import ops
from fastvae.data.interactions.catalogue import CATALOGUE_FILE
from fastvae.data.pixels.preprocess import Preprocess
from fastvae.data.table.columns import MaskGaps
from fastvae.evaluate import scores
from fastvae.likelihoods import LocalAutoregressive
from fastvae.models import VAE
from fastvae.records import Batch
from fastvae.run.export_recommender import TopItems, example_users
from fastvae.run.loaded import LoadedRun
from fastvae.train.run_dir.files import replacing
from fastvae.train.run_dir.weights import METADATA, sort_metadata

Format = Literal["safetensors", "pt2", "onnx"]
Part = Literal["encoder", "decoder", "scorer", "sampler"]
_WEIGHTS = {
    "encoder": ("encoder.",),
    "decoder": ("decoder.", "likelihood."),
    "sampler": ("decoder.", "likelihood.", "prior."),
}


@dataclass(frozen=True)
class _Keyed:
    batch: Batch
    key: Tensor


class _Part(nn.Module):
    """The computation of a program, as the module that ``torch.export`` requires."""

    def __init__(self, run: LoadedRun) -> None:
        super().__init__()
        assert isinstance(run.model, VAE)  # checked by _part
        self.model = run.model
        self.preprocess = run.data.preprocess

    def batch(self, raw: Tensor, key: Tensor | None, condition: Tensor | None) -> Batch:
        """Build the model's batch as in evaluation; row i has the noise of example key[2] + i."""
        if isinstance(self.preprocess, MaskGaps):
            is_missing = raw.isnan()
            x = raw.masked_fill(is_missing, 0.0)
            return Batch(x=x, target=x, condition=condition, mask=~is_missing)
        assert isinstance(self.preprocess, Preprocess)
        x = self.preprocess.apply(raw, key, evaluation=True)
        return Batch(x=x, target=x, condition=condition)


class _Encoder(_Part):
    def forward(self, x: Tensor, key: Tensor | None, condition: Tensor | None) -> tuple[Tensor, ...]:
        posterior = self.model.encode(self.batch(x, key, condition))
        return posterior.mu, posterior.logvar


class _Decoder(_Part):
    def forward(self, z: Tensor, condition: Tensor | None) -> tuple[Tensor]:
        return (self.model.decode(z, condition=condition).mean,)


class _Scorer(_Part):
    def forward(self, x: Tensor, key: Tensor, condition: Tensor | None) -> tuple[Tensor]:
        return (next(iter(scores(self.model, [_Keyed(self.batch(x, key, condition), key)]))),)


class _Sampler(_Part):
    def __init__(self, run: LoadedRun, num: int) -> None:
        super().__init__(run)
        self.num = num

    def forward(self, key: Tensor, condition: Tensor | None) -> tuple[Tensor]:
        z = self.model.draw_prior(self.num, key)
        return (self.model.generate(z, condition, key),)


@dataclass(frozen=True)
class Program:
    """An exported part of a run."""

    exported: torch.export.ExportedProgram
    """The program, without operators of fastvae."""
    inputs: tuple[str, ...]
    """Names of the inputs in order: x, z ``[B, D]``, key int64 ``[3]``, condition ``[B, C]``."""
    outputs: tuple[str, ...]
    """Names of the outputs in order."""


def export_program(run: LoadedRun, part: Part, *, num: int = 16) -> Program:
    """Export a part of a run as a program of plain PyTorch operators with a dynamic batch size.

    - encoder: x (and key, if pixels are dequantised or binarised) -> mu, logvar ``[B, D]``;
    - decoder: z -> mean of p(x|z) ``[B, ...]``;
    - scorer: x, key -> negative ELBO ``[B]``, float64 nats, with the noise of evaluation; for a recommender: known, the
      items of each user, int64 ``[B, L]`` padded with -1 -> the ``num`` best other items and their probabilities;
    - sampler: key -> ``num`` new examples.

    x is a raw example of the data (uint8 pixels, scaled columns with NaN for missing values); the conditions, if the
    model has any, are the last input.

    Args:
        run: The finished run.
        part: The part to export.
        num: Number of examples per call of a sampler, or of items per user.

    Raises:
        ValueError: The part does not exist in this model, or its data cannot be preprocessed in a program.
    """
    module, arguments, outputs = _part(run, part, num)
    given = {name: value for name, value in arguments.items() if value is not None}
    batch = torch.export.Dim("batch", min=1)
    is_batch = {"x", "z", "known"} | ({"condition"} if part != "sampler" else set())
    shapes = {name: ({0: batch} if name in is_batch and name in given else None) for name in arguments}
    if "known" in given:
        shapes["known"] = {0: batch, 1: torch.export.Dim("places", min=1)}
    module.eval()
    with torch.no_grad(), _without_gradients(module):
        exported = torch.export.export(module, (), dict(arguments), dynamic_shapes=shapes)
    with _without_leaf_spec_warning():
        exported = exported.run_decompositions(ops.decompositions())
    return Program(exported, tuple(given), outputs)


def export_part(run: LoadedRun, format: Format, part: Part, to: Path, *, num: int = 16) -> None:  # noqa: A002
    """Write a part of a run to a file; atomically.

    Args:
        run: The finished run.
        format: safetensors contains the part's weights; pt2 is read by ``torch.export.load``, onnx by ONNX Runtime.
        part: See `export_program`.
        to: The file to write.
        num: Number of examples per call of a sampler, or of items per user.

    Raises:
        ValueError: The part does not exist in this model, or its data cannot be preprocessed in a program.
        ModuleNotFoundError: The packages that write ONNX are missing.
    """
    if format == "safetensors":
        with replacing(to) as temporary:
            safetensors.torch.save_file(_weights(run.model, part), str(temporary), _metadata(run, part))
            sort_metadata(temporary)
        return
    if format == "onnx":
        _require_onnx()
    program = export_program(run, part, num=num)
    about = _metadata(run, part) | {"inputs": json.dumps(program.inputs), "outputs": json.dumps(program.outputs)}
    with replacing(to) as temporary:
        if format == "pt2":
            with temporary.open("wb") as file:
                torch.export.save(program.exported, file, extra_files={"fastvae.json": json.dumps(about)})
        else:
            _save_onnx(program, temporary, about)


def _part(run: LoadedRun, part: Part, num: int) -> tuple[nn.Module, dict[str, Tensor | None], tuple[str, ...]]:
    """Return the module, example inputs by name (None: not an input), and the names of its outputs."""
    if part == "scorer" and run.data.kind == "interactions":
        return TopItems(run, num), {"known": example_users(run)}, ("items", "probabilities")
    preprocess = run.data.preprocess
    if not isinstance(run.model, VAE) or not isinstance(preprocess, Preprocess | MaskGaps):
        raise ValueError(
            "export: --part as a program requires a VAE on pixels, numbers or a table, or a recommender's scorer, got"
            f" {type(run.model).__name__} on {run.data.kind}; --format safetensors writes weights"
        )
    if part in ("decoder", "sampler") and isinstance(run.model.likelihood, LocalAutoregressive):
        raise ValueError(
            f"export: --part {part} cannot be a program with likelihood local-autoregressive, which draws pixels one"
            " after the other; export the encoder or the scorer, or --format safetensors"
        )
    key = ops.noise_key(run.config.seed, device=run.device)
    if part == "sampler":
        condition = _conditions(run, num)
        return _Sampler(run, num), {"key": key, "condition": condition}, ("examples",)
    condition = _conditions(run, 2)
    if part == "decoder":
        if run.model.latent_shape is None:
            raise ValueError("export: the decoder's input must have a known shape; build the VAE with latent_dim")
        z = torch.zeros(2, *run.model.latent_shape, device=run.device)
        return _Decoder(run), {"z": z, "condition": condition}, ("mean",)
    x = torch.zeros(2, *run.data.event_shape, dtype=run.data.train.dtype, device=run.device)
    if part == "scorer":
        return _Scorer(run), {"x": x, "key": key, "condition": condition}, ("negative_elbo_nats",)
    draws = isinstance(preprocess, Preprocess) and (preprocess.dequantize or preprocess.binarize)
    return _Encoder(run), {"x": x, "key": key if draws else None, "condition": condition}, ("mu", "logvar")


def _conditions(run: LoadedRun, num: int) -> Tensor | None:
    """Return example conditions [num, C]."""
    return None if run.data.conditions is None else run.data.conditions.vectors(num).to(run.device)


@contextmanager
def _without_gradients(module: nn.Module) -> Iterator[None]:
    """Disable gradients of the parameters, so that the inference form of the operators is exported."""
    before = [(p, p.requires_grad) for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for p, required in before:
            p.requires_grad_(required)


@contextmanager
def _without_leaf_spec_warning() -> Iterator[None]:
    """Ignore the FutureWarning that PyTorch 2.13 raises in its own ``run_decompositions``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        yield


def _weights(model: nn.Module, part: Part) -> dict[str, Tensor]:
    prefixes = _WEIGHTS.get(part, ("",))
    tensors = {name: t.contiguous() for name, t in model.state_dict().items() if name.startswith(prefixes)}
    if not tensors:
        raise ValueError(f"export: {type(model).__name__} has no weights under {' or '.join(prefixes)}")
    return {name: t.clone() for name, t in tensors.items()}  # shared tensors are stored twice


def _metadata(run: LoadedRun, part: Part) -> dict[str, str]:
    about = METADATA | {"part": part, "data": run.data.name}
    if run.data.kind == "interactions":  # ids and titles of the items by index
        about["catalogue"] = run.data.state[CATALOGUE_FILE].decode()
    return about


def _require_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"export: --format onnx needs {' and '.join(missing)}; pip install 'fastvae[onnx]'")


def _save_onnx(program: Program, to: Path, about: dict[str, str]) -> None:
    converted: Any = torch.onnx.export(
        program.exported,
        (),
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    converted.model.metadata_props.update(about)
    converted.save(str(to), external_data=False)
