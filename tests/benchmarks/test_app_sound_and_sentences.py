"""Short runs of the benchmarks of speech and text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.ngrams import KneserNey
from tests import corpus
from tests.benchmarks.test_app_images import DATA, run_script
from tests.faults.program import Program

needs_digits = pytest.mark.skipif(not (DATA / "fsdd").is_dir(), reason=f"no fsdd/ in {DATA}; set FASTVAE_DATA")
needs_sst2 = pytest.mark.skipif(not (DATA / "sst2_glue").is_dir(), reason=f"no sst2_glue/ in {DATA}; set FASTVAE_DATA")


@needs_digits
def test_speech_requested_digits_are_recognised_above_chance(tmp_path: Path, program: Program) -> None:
    pytest.importorskip("soundfile")
    options = ["--steps=100", "--epochs=1", "--per-pair=1", "--num-samples=2", f"--pictures={tmp_path}"]
    rows = run_script(program, "app_speech.py", tmp_path, *options)
    values = {row["figure"]: row["value"] for row in rows}
    assert values["classifier's accuracy on real test clips"] > 0.3
    assert values["requested digit recognised"] > 0.15  # chance gives 0.1
    assert values["test MSE of standardised log-mels, z 16"] < 0.2  # the mean clip has 0.33
    assert values["share of WAV files that clip"] == 0
    assert (tmp_path / "speech-samples.png").is_file()


@needs_sst2
def test_text_samples_have_the_requested_length(tmp_path: Path, program: Program) -> None:
    options = ["--scale=0.005", "--num-samples=2", "--per-label=26", "--pairs=4", f"--pictures={tmp_path}"]
    rows = run_script(program, "app_text.py", tmp_path, *options)
    values = {row["figure"]: row["value"] for row in rows}
    assert values["requested length exact"] == 1
    assert 0.75 < values["classifier's accuracy on real test sentences"] < 0.9
    assert 50 < values["NLL (nats per sentence)"] < 250
    name = "runs of three tokens that occur in the training phrases"
    assert 0 < values[f"{name}: real test sentences"] < 0.5
    assert 0 <= values[f"{name}: between sentences"] <= 1
    assert "test sentences 0 and 3:" in (tmp_path / "text-interpolations.txt").read_text(encoding="utf-8")


def test_kneser_ney_is_a_distribution_that_prefers_what_it_has_seen() -> None:
    rows = [[1, 2, 3, 0], [1, 2, 4, 0], [5, 1, 2, 0], [5, 0], [3, 3, 3, 0]]
    model = KneserNey(rows, 7, order=3)
    for context in ((-1, -1), (-1, 1), (1, 2), (6, 6)):
        assert sum(model.probability(context, token) for token in range(7)) == pytest.approx(1)
    assert model.probability((1, 2), 3) > 3 * model.probability((1, 2), 5)
    assert model.nll([1, 2, 3, 0]) < model.nll([6, 6, 6, 0])
    unigram = KneserNey(rows, 7, order=1)
    seen = Counter(token for row in rows for token in row)
    once, twice = (sum(count == number for count in seen.values()) for number in (1, 2))
    discount = once / (once + 2 * twice)
    expected = (seen[0] - discount + discount * len(seen) / 7) / sum(seen.values())
    assert unigram.probability((), 0) == pytest.approx(expected)


def test_sentences_of_a_file_are_compared_with_a_4_gram_model(tmp_path: Path, program: Program) -> None:
    pytest.importorskip("tokenizers")
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(text for _, text in corpus.rows(300)), encoding="utf-8")
    options = ["--num-samples=2", "--num-sentences=20", f"--runs={tmp_path / 'runs'}", "--options", "train.steps=30"]
    options += ["model.hidden-dim=16", "model.text.embedding-dim=8", "train.eval-every=None"]
    rows = run_script(program, "app_sentences.py", tmp_path, str(file), *options)
    values = {row["figure"]: row["value"] for row in rows}
    assert 0 < values["mine: 4-gram, nats per sentence"] < values["mine: bound, nats per sentence"]
    assert values["mine: perplexity of test sentences by the 4-gram"] > 1
    assert 0 < values["mine: distinct bigrams of samples at temperature 0.8"] <= 1
