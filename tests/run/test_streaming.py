"""Examples that stay on disk are read batch by batch, by a finished run too; and one process of many writes results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fastvae
from fastvae import cli
from fastvae.data import Source
from fastvae.data.files.shards import NpyShards

NUM = 20_000
WORDS = "--train.steps=2 --train.final-samples=1 --train.global-batch-size=8 --train.no-pictures".split()


class Huge(Source):
    """Examples that no memory holds; it counts the examples of each reading."""

    in_memory = False

    def __init__(self, like: Source) -> None:
        self.event_shape, self.dtype, self.levels = like.event_shape, like.dtype, like.levels
        self.reads: list[int] = []

    def __len__(self) -> int:
        return NUM

    def __getitem__(self, indices: Tensor) -> Tensor:
        self.reads.append(len(indices))
        return (indices.view(-1, *(1 for _ in self.event_shape)) % 251).to(torch.uint8).expand(-1, *self.event_shape)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> fastvae.LoadedRun:
    folder = tmp_path_factory.mktemp("streaming")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 4), dtype=np.uint8))
    words = ["train", "digits", f"--data.path={folder / 'x.npy'}", f"--run-dir={folder / 'run'}", *WORDS]
    assert cli.main(words) == 0
    return fastvae.load(folder / "run")


def test_scores_latents_and_the_evaluation_are_made_batch_by_batch(run: fastvae.LoadedRun) -> None:
    for compute in (
        lambda source: len(run.score(source)),
        lambda source: len(run.encode(source)["mu"]),
        lambda source: replace(run, data=replace(run.data, test=source)).evaluate().num_examples,
    ):
        source = Huge(run.data.test)
        assert compute(source) == NUM
        assert sum(source.reads) == NUM
        assert max(source.reads) <= run.config.train.eval_batch_size


def test_a_folder_of_shards_is_not_read_before_it_is_scored(
    run: fastvae.LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (NUM, 4), dtype=np.uint8))
    reads: list[int] = []
    read = NpyShards.__getitem__

    def counted(self: NpyShards, indices: Tensor) -> Tensor:
        reads.append(len(indices))
        return read(self, indices)

    monkeypatch.setattr(NpyShards, "__getitem__", counted)
    source = run.source(tmp_path)
    assert sum(reads) <= 2 * 4096
    assert len(run.score(source)) == NUM
    assert max(reads[1:]) <= 4096


def test_one_process_of_many_runs_commands_that_are_not_shared(
    run: fastvae.LoadedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["reconstruct", str(run.directory), f"--out={tmp_path / 'pairs.csv'}"]) == 0
        assert (tmp_path / "pairs.csv").exists() == (rank == "0")
    assert capsys.readouterr().err.count("rank 0 alone runs reconstruct") == 1


def test_a_command_in_a_slurm_job_is_one_process_unless_srun_starts_several(
    run: fastvae.LoadedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(run.directory), "--num-samples=1"]
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert cli.main(words) == 0
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert cli.main(words) == 2
    assert "SLURM_STEP_NUM_TASKS is 4, but no launcher connects the 4 processes" in capsys.readouterr().err


def test_latents_are_written_chunk_by_chunk(run: fastvae.LoadedRun, tmp_path: Path) -> None:
    source = Huge(run.data.test)
    run.save_latents(tmp_path / "z.npz", source)
    assert max(source.reads) <= run.config.train.eval_batch_size
    expected = run.encode(source)
    with np.load(tmp_path / "z.npz", allow_pickle=False) as written:
        assert set(written.files) == {"mu", "logvar"}
        assert np.array_equal(written["mu"], expected["mu"].numpy())
        assert np.array_equal(written["logvar"], expected["logvar"].numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["z.npz"]
