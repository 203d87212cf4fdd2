"""`fastvae export`: a run's weights, or a part of it as a program, in one file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastvae.commands.options import OnRun, load_run


@dataclass(frozen=True)
class Export(OnRun):
    """Write a run's weights, or a part of it as a program, to one file for other programs.

    Without --part: the weights of the newest valid checkpoint, averaged where the run keeps an average.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run directory."""
    to: Path
    """The file; of weights, `--weights FILE` starts a run from it and `fastvae.load_weights` puts it into a model."""
    format: Literal["safetensors", "pt2", "onnx"] = "safetensors"
    """safetensors: weights; pt2: a program for `torch.export.load`; onnx: one for ONNX Runtime (`fastvae[onnx]`)."""
    part: Literal["encoder", "decoder", "scorer", "sampler"] | None = None
    """encoder: x to mu and logvar; decoder: z to the mean of p(x|z); scorer: x and a noise key to minus the ELBO;
    sampler: a noise key to new examples. None: all weights."""
    num: int = 16
    """Examples that one call of a sampler draws."""
    step: int | None = None
    """Of all weights: the checkpoint of this step; None is the newest."""

    def __call__(self) -> int:
        if self.part is None and self.format != "safetensors":
            raise ValueError(f"--format {self.format} needs --part encoder, decoder, scorer or sampler")
        if self.part is not None and self.step is not None:
            raise ValueError("--step goes without --part: a part has the weights that the run's evaluation used")
        if self.num < 1:
            raise ValueError(f"--num must be at least 1, got {self.num}")
        if self.part is None:
            from fastvae.train import export_weights  # here: it imports PyTorch

            print(f"{self.to}: the weights of step {export_weights(self.run, self.to, step=self.step)}")
            return 0
        from fastvae.run import export_part  # here: it imports PyTorch

        export_part(load_run(self.run, "cpu", self.module), self.format, self.part, self.to, num=self.num)
        print(f"{self.to}: the {self.part}, as {self.format}")
        return 0
