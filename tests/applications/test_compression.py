"""Compression: files are recovered exactly, their size is the negative ELBO, and undecodable files are refused."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastvae import ops
from fastvae.applications.compression import compress_file, decompress_file, integer_vae
from fastvae.applications.compression.container import LosslessHeader, read_container, write_container
from fastvae.applications.compression.lossy import LatentQuantiser
from fastvae.data import Data, DataConfig, as_data, build_data
from fastvae.models import ModelConfig, ModelInputs, build_model
from fastvae.records import Draw
from fastvae.run import LoadedRun, RunConfig
from fastvae.train import TrainConfig

LIKELIHOODS = ("bernoulli", "gaussian", "discretized-logistic", "beta-binomial")


def make_run(data: Data, likelihood: str, *, seed: int = 0) -> LoadedRun:
    """A run of a small model with its initial weights, as `run.load` would return it."""
    config = ModelConfig(hidden_dim=(32,), latent_dim=6, likelihood=likelihood)
    levels = getattr(data.preprocess, "levels", None)
    inputs = ModelInputs(event_shape=data.event_shape, num_levels=levels)
    model = build_model(config, inputs, seed=seed, mean=data.train_mean)
    run = RunConfig(model=config, data=DataConfig(), train=TrainConfig())
    return LoadedRun(directory=Path(), config=run, data=data, model=model, device=torch.device("cpu"))


def digits(likelihood: str) -> tuple[LoadedRun, Tensor]:
    """A run on scikit-learn's digits, preprocessed for the likelihood, and test examples with the same levels."""
    data = build_data(DataConfig(name="digits", dequantize=likelihood == "gaussian"))
    examples = data.test[torch.arange(101)]
    if likelihood != "bernoulli":
        return make_run(data, likelihood), examples
    binary = as_data((data.train[torch.arange(500)] > 7).to(torch.uint8), (examples > 7).to(torch.uint8))
    return make_run(binary, likelihood), binary.test[torch.arange(101)]


@pytest.fixture
def binary(tmp_path: Path) -> tuple[LoadedRun, Path, Path]:
    """A run on binary pixels, a file of examples, and the compressed file."""
    run, examples = digits("bernoulli")
    data, out = tmp_path / "x.npy", tmp_path / "x.fvc"
    np.save(data, examples.numpy())
    compress_file(run, data, out)
    return run, data, out


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("lanes", [1, 16, 200])
def test_lossless_compression_recovers_every_byte(likelihood: str, lanes: int, tmp_path: Path) -> None:
    run, examples = digits(likelihood)
    data, out, back = (tmp_path / name for name in ("x.npy", "x.fvc", "back.npy"))
    np.save(data, examples.numpy())
    report = compress_file(run, data, out, lanes=lanes)
    assert out.stat().st_size == report.file_bytes
    decompress_file(run, out, back)
    assert back.read_bytes() == data.read_bytes()


@pytest.mark.parametrize("kind", ["idx", "idx.gz", "text", "text.gz", "bool", "one example"])
def test_every_file_format_is_recovered(kind: str, tmp_path: Path) -> None:
    run, examples = digits("bernoulli")
    pixels = examples.numpy()[: 1 if kind == "one example" else 20]
    if kind.startswith("idx"):
        content = b"\0\0\x08\x03" + np.array([len(pixels), 8, 8], ">u4").tobytes() + pixels.tobytes()
    elif kind.startswith("text"):
        content = "".join(" ".join(map(str, row)) + "\n" for row in pixels.reshape(len(pixels), -1)).encode()
    else:
        np.save(tmp_path / "x.npy", pixels.astype(bool) if kind == "bool" else pixels)
        content = (tmp_path / "x.npy").read_bytes()
    data = tmp_path / "data"
    data.write_bytes(gzip.compress(content) if kind.endswith(".gz") else content)
    compress_file(run, data, tmp_path / "x.fvc")
    decompress_file(run, tmp_path / "x.fvc", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("likelihood", ["bernoulli", "discretized-logistic"])
def test_compressed_size_is_the_negative_elbo(likelihood: str, tmp_path: Path) -> None:
    run, examples = digits(likelihood)
    repeated = examples.repeat(8, 1, 1, 1)
    np.save(tmp_path / "x.npy", repeated.numpy())
    compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc")
    header, words = read_container(tmp_path / "x.fvc")
    assert isinstance(header, LosslessHeader)
    bits = 32 * (len(words) - header.initial_words)
    x = repeated.float() / ((2 if likelihood == "bernoulli" else 17) - 1)
    with torch.no_grad():
        terms = run.model(x, ops.noise_key(0), Draw(num_samples=64))
    negative_elbo_bits = float((terms.rate + terms.distortion).mean(0).sum()) / np.log(2)
    assert bits == pytest.approx(negative_elbo_bits, rel=0.01)


def test_decompression_with_other_weights_is_refused(binary: tuple[LoadedRun, Path, Path], tmp_path: Path) -> None:
    run, _, file = binary
    other = make_run(run.data, "bernoulli", seed=1)
    with pytest.raises(ValueError, match=r"x\.fvc: .*weights"):
        decompress_file(other, file, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_decompression_with_different_arithmetic_is_refused(
    binary: tuple[LoadedRun, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, file = binary
    monkeypatch.setattr(torch.nn.Module, "double", lambda module: module.bfloat16().to(torch.float64))
    with pytest.raises(ValueError, match=r"x\.fvc: .*arithmetic.*fastvae .* torch"):
        decompress_file(run, file, tmp_path / "back")


def test_decompression_works_with_another_number_of_threads(
    binary: tuple[LoadedRun, Path, Path], tmp_path: Path
) -> None:
    run, data, file = binary
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        decompress_file(run, file, tmp_path / "back")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "back").read_bytes() == data.read_bytes()


def test_flipped_and_truncated_bytes_are_detected(binary: tuple[LoadedRun, Path, Path], tmp_path: Path) -> None:
    run, _, file = binary
    content = file.read_bytes()
    damaged = tmp_path / "damaged.fvc"
    for i in range(0, len(content), 29):
        for wrong in (content[:i], content[:i] + bytes([content[i] ^ 0x10]) + content[i + 1 :]):
            damaged.write_bytes(wrong)
            with pytest.raises(ValueError, match=r"damaged\.fvc"):
                decompress_file(run, damaged, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"num_examples": 10**12},
        {"num_examples": 10**5},
        {"num_examples": 100},
        {"num_examples": 0},
        {"num_examples": "101"},
        {"lanes": 10**9},
        {"lanes": 15},
        {"step_log2": 3},
        {"initial_words": 5},
        {"initial_words": 2**40},
        {"initial_words": -1},
        {"prefix": "AAAA"},
        {"prefix": "!"},
        {"layout": "elf"},
        {"sha256": "0" * 32},
        {"mode": "lossy"},
        {"surprise": 1},
    ],
)
def test_a_forged_header_is_refused(
    change: dict[str, object], binary: tuple[LoadedRun, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, file = binary
    header, words = read_container(file)
    fields = dataclasses.asdict(header) | change
    monkeypatch.setattr("fastvae.applications.compression.container.asdict", lambda _: fields)
    write_container(tmp_path / "forged.fvc", header, words)
    with pytest.raises(ValueError, match=r"forged\.fvc: ") as error:
        decompress_file(run, tmp_path / "forged.fvc", tmp_path / "back")
    assert "\n" not in str(error.value)


def test_missing_words_are_an_error(binary: tuple[LoadedRun, Path, Path], tmp_path: Path) -> None:
    run, _, file = binary
    header, words = read_container(file)
    for kept in (words[:0], words[-5:], words[len(words) // 2 :]):
        write_container(tmp_path / "short.fvc", header, kept)
        with pytest.raises(ValueError, match=r"short\.fvc"):
            decompress_file(run, tmp_path / "short.fvc", tmp_path / "back")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "text with 64 digits"),
        (b"0 1 2\n", "text with 64 digits"),
        (b"\x93NUMPY\x01\x00\x10\x00garbage", r"\.npy header"),
        (b"\x1f\x8b\x08garbage", "gzip data"),
        (b"\0\0\x08\x03\0\0\0\x05", "1 to 4 dimensions"),
        (b"\0\0\x08\x02\0\0\0\x05\0\0\0\x40" + bytes(7), "320 bytes of pixels.* 7$"),
        (b"\0\0\x08\x02\0\0\0\x01\0\0\0\x07" + bytes(7), r"shape \[1, 8, 8\].* \[1, 7\]"),
        (b"\0\0\x08\x02\0\0\0\x01\0\0\0\x40" + bytes([9] * 64), r"pixels .*0 \.\. 1.* got 9"),
    ],
)
def test_an_unsuitable_file_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    run, _ = digits("bernoulli")
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        compress_file(run, tmp_path / "x", tmp_path / "x.fvc")
    assert not (tmp_path / "x.fvc").exists()


def test_unpacking_stops_at_the_size_limit(tmp_path: Path) -> None:
    run, _ = digits("bernoulli")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**24)))
    with pytest.raises(ValueError, match=r"bomb\.gz: .*limit of 1048576 bytes"):
        compress_file(run, tmp_path / "bomb.gz", tmp_path / "x.fvc", max_gib=2**-10)


def test_a_finer_grid_is_larger_and_more_accurate(tmp_path: Path) -> None:
    run, examples = digits("gaussian")
    with torch.no_grad():  # the initial posteriors' standard deviation is 1: sharpen them, as training would
        run.model.encoder.mu.weight.mul_(4)
    np.save(tmp_path / "x.npy", examples.numpy())
    sizes, errors = [], []
    for step in (0.02, 0.5, 8.0):
        report = compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc", step=step)
        pixels = decompress_file(run, tmp_path / "x.fvc", tmp_path / "back.npy")
        back = np.load(tmp_path / "back.npy")
        assert back.shape == tuple(examples.shape)
        assert np.array_equal(back.reshape(len(back), -1), pixels)
        mean = run.model.reconstruct((examples + 0.5) / 17)
        exact = (mean * 17).floor().clamp(0, 16).numpy().reshape(len(back), -1)
        sizes.append(report.file_bytes)
        errors.append(float(np.abs(pixels - exact).mean()))
    assert sizes[0] > sizes[1] > sizes[2]
    assert errors[0] < 0.05
    assert errors[0] < errors[2] / 4


@pytest.mark.parametrize("table", [bytes(10), b"\xff\x7f" * 18, bytes(24) + b"\xff\x7f" * 6, b"\0\x80" * 18])
def test_a_forged_quantiser_is_refused(table: bytes, tmp_path: Path) -> None:
    run, examples = digits("gaussian")
    np.save(tmp_path / "x.npy", examples.numpy())
    compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc", step=1.0)
    header, words = read_container(tmp_path / "x.fvc")
    forged = dataclasses.replace(header, quantiser=base64.b64encode(table).decode())  # type: ignore[call-arg]
    write_container(tmp_path / "forged.fvc", forged, words)
    with pytest.raises(ValueError, match=r"forged\.fvc: "):
        decompress_file(run, tmp_path / "forged.fvc", tmp_path / "back")


def test_lossy_decompression_with_different_arithmetic_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, examples = digits("gaussian")
    np.save(tmp_path / "x.npy", examples.numpy())
    compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc", step=0.1)
    own = LatentQuantiser.gaussians

    def one_ulp_wider(self: LatentQuantiser) -> Iterator[tuple[float, float]]:
        yield from ((mean, float(np.nextafter(np.float32(stddev), np.float32(np.inf)))) for mean, stddev in own(self))

    monkeypatch.setattr(LatentQuantiser, "gaussians", one_ulp_wider)
    with pytest.raises(ValueError, match=r"x\.fvc: .*latents.*arithmetic"):
        decompress_file(run, tmp_path / "x.fvc", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"lanes": 0}, r"lanes .*1 \.\. 4096, got 0"),
        ({"lanes": -1}, "lanes .*got -1"),
        ({"lanes": 5000}, "lanes .*got 5000"),
        ({"max_gib": float("nan")}, "max_gib .*got nan"),
        ({"max_gib": 0.0}, "max_gib .*got 0"),
    ],
)
def test_settings_are_checked_before_the_file_is_read(option: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    run, _ = digits("bernoulli")
    with pytest.raises(ValueError, match=complaint):
        compress_file(run, tmp_path / "absent.npy", tmp_path / "x.fvc", **option)


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_the_grid_step_must_be_positive(step: float, tmp_path: Path) -> None:
    run, examples = digits("gaussian")
    np.save(tmp_path / "x.npy", examples.numpy())
    with pytest.raises(ValueError, match=f"step .*got {step}"):
        compress_file(run, tmp_path / "x.npy", tmp_path / "x.fvc", step=step)


def test_continuous_data_cannot_be_compressed() -> None:
    data = as_data(torch.rand(20, 4))
    with pytest.raises(ValueError, match="discrete pixels"):
        integer_vae.IntegerVAE(make_run(data, "gaussian").model, data)


def test_train_compress_and_decompress_commands(tmp_path: Path) -> None:
    def fastvae(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "fastvae", *words], capture_output=True, text=True, check=False)

    run, data, file, back = (str(tmp_path / name) for name in ("run", "x.npy", "x.fvc", "back.npy"))
    np.save(data, digits("gaussian")[1].numpy())
    options = ("--train.steps=3", "--train.objective.kl-warmup=1", "--train.final-samples=1")
    assert fastvae("train", "digits", f"--run-dir={run}", *options).returncode == 0
    done = fastvae("compress", run, "--data", data, "--out", file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file_bytes"] == Path(file).stat().st_size
    assert fastvae("decompress", run, file, "--out", back).returncode == 0
    assert Path(back).read_bytes() == Path(data).read_bytes()
    refused = fastvae("decompress", run, data, "--out", back)
    assert refused.returncode == 2
    assert f"{data}: " in refused.stderr.splitlines()[-1]
