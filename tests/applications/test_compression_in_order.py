"""Compression by a likelihood whose pixels are coded one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from fastvae import ops
from fastvae.applications.compression import compress_file, decompress_file
from fastvae.data import DataConfig, as_data
from fastvae.models import ModelConfig, build_model
from fastvae.records import Draw
from fastvae.run import LoadedRun, RunConfig, export_program
from fastvae.train import TrainConfig


def run_of(shape: tuple[int, ...], num: int) -> tuple[LoadedRun, torch.Tensor]:
    """A run of a small model with random weights, and smooth images [num, C, H, W] of 8 bits."""
    noise = ops.philox_uniform(ops.noise_key(1), num, torch.Size(shape).numel()).view(num, *shape)
    images = (255 * (noise + noise.roll(1, -1) + noise.roll(1, -2)) / 3).to(torch.uint8)
    data = as_data(images)
    config = ModelConfig(hidden_dim=(16,), latent_dim=3, likelihood="local-autoregressive")
    model = build_model(config, data.model_inputs, mean=data.train_mean)
    run = RunConfig(model=config, data=DataConfig(), train=TrainConfig())
    return LoadedRun(directory=Path(), config=run, data=data, model=model, device=torch.device("cpu")), images


@pytest.mark.parametrize(
    ("shape", "num", "lanes"),
    [((1, 5, 9), 7, 3), ((3, 6, 4), 5, 5), ((1, 12, 12), 2, 16), ((2, 1, 8), 4, 1), ((1, 7, 1), 9, 16)],
)
def test_images_of_several_sizes_are_recovered(shape: tuple[int, ...], num: int, lanes: int, tmp_path: Path) -> None:
    run, images = run_of(shape, num)
    data, out, back = (tmp_path / name for name in ("x.npy", "x.fvc", "back.npy"))
    np.save(data, images.numpy())
    compress_file(run, data, out, lanes=lanes)
    decompress_file(run, out, back)
    assert back.read_bytes() == data.read_bytes()


def test_compressed_size_is_the_negative_elbo(tmp_path: Path) -> None:
    run, images = run_of((3, 8, 8), 40)
    np.save(tmp_path / "x.npy", images.numpy())
    report = compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc", lanes=40)
    with torch.no_grad():
        terms = run.model(images.float() / 255, ops.noise_key(0), Draw(num_samples=16, evaluation=True))
    bits = float((terms.rate + terms.distortion).mean(0).sum()) / np.log(2)
    header = 8 * 700 / images.numel()  # the header of so small a file counts
    assert bits / images.numel() < report.net_bits_per_pixel < 1.01 * bits / images.numel() + header


def test_a_new_process_decompresses_photographs(tmp_path: Path) -> None:
    pixels = run_of((3, 8, 8), 60)[1].numpy()
    data, file, back = (tmp_path / name for name in ("x.npy", "x.fvc", "back.npy"))
    np.save(data, pixels)

    def fastvae(*words: str | Path) -> None:
        line = [sys.executable, "-m", "fastvae", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    fastvae("train", "lossless", f"--data.path={data}", f"--run-dir={tmp_path / 'run'}", "--train.steps=3")
    fastvae("compress", tmp_path / "run", "--data", data, "--out", file)
    fastvae("decompress", tmp_path / "run", file, "--out", back)
    assert back.read_bytes() == data.read_bytes()


@pytest.mark.parametrize("part", ["decoder", "sampler"])
def test_pixels_in_order_cannot_be_exported_as_a_program(part: Literal["decoder", "sampler"]) -> None:
    with pytest.raises(ValueError, match=f"--part {part} .*local-autoregressive"):
        export_program(run_of((1, 8, 8), 20)[0], part)
