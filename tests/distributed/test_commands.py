"""Commands on a finished run write the same bytes on two ranks as in one process, and end together."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvae import cli
from tests import corpus, launching
from tests.faults.program import Process, Program

WORKER = Path(__file__).with_name("commands_worker.py")
SHORT = "--train.steps=2 --train.final-samples=1 --train.global-batch-size=16 --train.no-pictures --model.hidden-dim 8"
RECIPES = {
    "digits": "digits --train.eval-batch-size=70",  # 360 test examples: 6 chunks, of which the last is shorter
    "table": "anomaly-table --train.eval-batch-size=30",
    "text": "sst2-sentences --data.name=file --data.text.max-length=8 --data.text.min-frequency=1"
    " --model.text.embedding-dim=8 --model.text.cutoffs 8 --train.eval-batch-size=7",
}
COMMANDS = [
    "evaluate {digits} --num-samples=3 --json",
    "evaluate {table} --num-samples=2",
    "score {digits} --out={out}/digits.csv --num-samples=3",
    "score {table} --out={out}/table.csv --contamination=0.1",
    "encode {digits} --out={out}/digits.npz",
    "encode {text} --out={out}/text.npz --split=train",
    "encode {digits} --out={out}/one.npz --data={one}",  # fewer chunks than ranks
    "anomaly-report {table} --out={out}/report.csv --contamination=0.1",
    "sample {digits} --num=150 --out={out}/samples.npz",
    "sample {digits} --num=150 --like=3 --out={out}/alike.npz",
    "sample {digits} --num=8 --out={out}/samples.png",
    "sample {text} --num=40 --out={out}/samples.txt",
    "reconstruct {digits} --out={out}/pairs.png",  # rank 0 alone
]


def table(path: Path, num: int = 200) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{2 * x + y:.3f},{int(abs(y) > 1.8)}" for x, y in rng.normal(size=(num, 2))]
    path.write_text("\n".join(["a,b,anomaly", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short run of each recipe, and one image."""
    folder = tmp_path_factory.mktemp("runs")
    data = {"table": table(folder / "rows.csv"), "text": corpus.write(folder / "moods.tsv", 200)}
    for name, words in RECIPES.items():
        given = [f"--data.path={data[name]}"] if name in data else []
        assert cli.main(["train", *words.split(), *given, *SHORT.split(), f"--run-dir={folder / name}"]) == 0
    np.save(folder / "one.npy", np.zeros((1, 1, 8, 8), np.uint8))
    return {name: folder / name for name in RECIPES} | {"one": folder / "one.npy"}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in the processes of torchrun: sums depend on the number of threads."""
    num = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num)


@pytest.mark.usefixtures("one_thread")
def test_two_ranks_write_the_same_bytes_as_one_process(
    runs: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    expected = []
    for words in COMMANDS:
        assert cli.main(words.format(**runs, out=one).split()) == 0
        expected.append(capsys.readouterr().out.replace(str(one), ""))
    jobs, result = tmp_path / "jobs.json", tmp_path / "result.json"
    jobs.write_text(json.dumps([words.format(**runs, out=two).split() for words in COMMANDS]))
    done = launching.run([str(WORKER), str(jobs), str(result)], num_processes=2)
    assert done.stderr.count("rank 0 alone runs reconstruct") == 1
    assert [(code, text.replace(str(two), "")) for code, text in json.loads(result.read_text())] == [
        (0, text) for text in expected
    ]
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert len(files) == 11
    assert [name for name in files if files[name] != (two / name).read_bytes()] == []


def start(program: Program, words: Sequence[str], folder: Path, hook: str = "", ranks: int = 2) -> list[Process]:
    """Start a command on ranks; the last one has a hook (see `forkserver.signal_inside`)."""
    hooks = {ranks - 1: hook} if hook else {}
    return program.on_ranks(words, folder / "command", ranks=ranks, hooks=hooks)


def messages(processes: Sequence[Process]) -> list[str]:
    return [line for process in processes for line in process.text().splitlines() if line.startswith("fastvae: ")]


def test_a_killed_rank_ends_the_command_and_no_file_is_left(
    runs: Mapping[str, Path], program: Program, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "z.npz"
    words = ["encode", str(runs["digits"]), f"--out={out}"]
    started = time.monotonic()
    processes = start(program, words, tmp_path, "fastvae.run.chunks:evaluation_batch 2 SIGKILL")
    assert [process.wait() for process in processes] == [1, -signal.SIGKILL]
    assert time.monotonic() - started < 60
    (line,) = messages(processes)
    assert "rank 1 on " in line
    assert f"process {processes[1].pid} does not answer" in line
    assert list(out.parent.iterdir()) == []


def test_a_stop_signal_ends_all_ranks_with_its_exit_code(
    runs: Mapping[str, Path], program: Program, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "scores.csv"
    words = ["score", str(runs["digits"]), f"--out={out}"]
    processes = start(program, words, tmp_path, "fastvae.run.chunks:evaluation_batch 2 SIGTERM")
    assert [process.wait() for process in processes] == [143, 143]
    assert messages(processes) == ["fastvae: SIGTERM: stopped; no file was written"]
    assert list(out.parent.iterdir()) == []


BROKEN = """
import torch, fastvae

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 6)

    def forward(self, x):
        return self.layer(x)  # not a pair

def build():
    return fastvae.VAE(Encoder(), fastvae.MLPDecoder(3, 4, 8), fastvae.Gaussian()), torch.rand(64, 8)
"""


def test_a_module_that_breaks_a_contract_is_one_message_on_all_ranks(program: Program, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    words = ["train", f"{tmp_path / 'broken.py'}:build", f"--run-dir={tmp_path / 'run'}", "--train.steps=3"]
    started = time.monotonic()
    processes = start(program, words, tmp_path)
    assert [process.wait() for process in processes] == [2, 2]
    assert time.monotonic() - started < 60  # not the timeout of ten minutes
    (line,) = messages(processes)
    assert "the encoder must return a pair of tensors (mu, logvar)" in line
