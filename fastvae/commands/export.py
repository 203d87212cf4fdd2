"""`fastvae export`: a run's weights, or a part of it as a program, in one file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from fastvae.commands.options import OnRun, load_run, output_file

Format = Literal["safetensors", "pt2", "onnx"]


@dataclass(frozen=True)
class Export(OnRun):
    """Write a run's weights, or a part of it as a program, to one file for other programs.

    Without --part: the weights of the newest valid checkpoint, averaged if the run has EMA.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    to: Path
    """File to write, which ends in .safetensors, .pt2 or .onnx like the format; for weights, `--weights FILE` starts a
    run from it, `fastvae.load_weights` loads it into a model."""
    format: Format = "safetensors"
    """safetensors: weights; pt2: a program for `torch.export.load`; onnx: one for ONNX Runtime (`fastvae[onnx]`)."""
    part: Literal["encoder", "decoder", "scorer", "sampler"] | None = None
    """encoder: x to mu and logvar; decoder: z to the mean of p(x|z); scorer: x and a noise key to the negative ELBO, or
    for a recommender each user's items to the best other ones; sampler: a noise key to new examples. None: all
    weights."""
    num: int = 16
    """Number of examples per call of a sampler, or of recommended items per user."""
    step: int | None = None
    """Step of the checkpoint whose weights are written; None is the newest. Not with --part."""

    def __call__(self) -> int:
        if self.part is None and self.format != "safetensors":
            raise ValueError(f"--format {self.format} requires --part encoder, decoder, scorer or sampler")
        if self.part is not None and self.step is not None:
            raise ValueError("--step cannot be used with --part, which exports the weights that the evaluation used")
        if self.num < 1:
            raise ValueError(f"--num must be at least 1, got {self.num}")
        ending = self.to.suffix.lower().removeprefix(".")
        if ending != self.format and ending in get_args(Format):
            raise ValueError(
                f"--to: {self.to.name} is the name of another format, got --format {self.format}; set --format {ending}"
            )
        to = output_file(self.to, (f".{self.format}",), option="--to")
        if self.part is None:
            from fastvae.train import export_weights  # imported here: it imports PyTorch

            print(f"{to}: the weights of step {export_weights(self.run, to, step=self.step)}")
            return 0
        from fastvae.run import export_part  # imported here: it imports PyTorch

        export_part(load_run(self.run, "cpu", self.module), self.format, self.part, to, num=self.num)
        print(f"{to}: the {self.part}, as {self.format}")
        return 0
