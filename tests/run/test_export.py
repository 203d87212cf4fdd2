"""`fastvae export`: an exported part of a run gives the results of the run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fastvae
from fastvae import cli
from fastvae.run import LoadedRun, export_program

# Warnings of torch.export itself.

OPTIONS = "--train.steps 20 --train.final-samples 1 --model.hidden-dim 16 --model.latent-dim 3 --data.condition label"
PARTS = ("encoder", "decoder", "scorer", "sampler")
FIRST, NUM = 5, 3


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "run"
    assert cli.main(["train", "digits", f"--run-dir={directory}", *OPTIONS.split()]) == 0
    return directory


@pytest.fixture(scope="module")
def run(run_dir: Path) -> LoadedRun:
    return fastvae.load(run_dir)


def inputs(run: LoadedRun) -> dict[str, Tensor]:
    """Return test examples from FIRST on, their key in evaluation, latents, and their condition."""
    batch = run.batch(torch.arange(FIRST, FIRST + NUM))
    assert batch.condition is not None
    return {
        "x": run.source()[torch.arange(FIRST, FIRST + NUM)],
        "key": fastvae.noise_key(run.config.seed, 0, FIRST),
        "z": run.encode()["mu"][FIRST : FIRST + NUM],
        "condition": batch.condition,
    }


def expected(run: LoadedRun, part: str) -> list[Tensor]:
    if part == "encoder":
        found = run.encode()
        return [found[name][FIRST : FIRST + NUM] for name in ("mu", "logvar")]
    if part == "decoder":
        return [run.model.generate(inputs(run)["z"], inputs(run)["condition"])]  # type: ignore[operator]
    if part == "scorer":
        return [run.score()[FIRST : FIRST + NUM]]
    z = run.model.draw_prior(NUM, inputs(run)["key"])  # type: ignore[operator]
    return [run.model.generate(z, inputs(run)["condition"])]  # type: ignore[operator]


def arguments(run: LoadedRun, part: str) -> dict[str, Tensor]:
    names = {
        "encoder": "x key condition",
        "decoder": "z condition",
        "scorer": "x key condition",
        "sampler": "key condition",
    }
    return {name: inputs(run)[name] for name in names[part].split()}


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    for f, w in zip(found, wanted, strict=True):
        assert f.dtype == w.dtype
        torch.testing.assert_close(f, w, rtol=1e-5, atol=2e-5)


def test_an_exported_program_has_standard_operators_and_a_dynamic_batch(run: LoadedRun) -> None:
    program = export_program(run, "encoder")
    assert program.inputs == ("x", "key", "condition")
    assert not [node for node in program.exported.graph.nodes if "fastvae" in str(node.target)]
    assert_same(list(program.exported.module()(**arguments(run, "encoder"))), expected(run, "encoder"))
    assert all(p.requires_grad for p in run.model.parameters())


def test_exported_weights_have_a_description(run_dir: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    assert cli.main(["export", str(run_dir), f"--to={tmp_path / 'all.safetensors'}"]) == 0
    assert cli.main(["export", str(run_dir), f"--to={tmp_path / 'decoder.safetensors'}", "--part=decoder"]) == 0
    with (
        safe_open(tmp_path / "all.safetensors", "pt") as everything,
        safe_open(tmp_path / "decoder.safetensors", "pt") as decoder,
    ):
        names = [name for name in everything.keys() if name.startswith(("decoder.", "likelihood."))]  # noqa: SIM118
        assert sorted(decoder.keys()) == sorted(names)
        assert all(torch.equal(decoder.get_tensor(name), everything.get_tensor(name)) for name in names)
        for file, about in ((everything, {}), (decoder, {"part": "decoder", "data": "digits"})):
            assert file.metadata() == {"format": "pt", "fastvae_version": fastvae.__version__, **about}


def test_unsupported_exports_are_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*options: str) -> str:
        file = tmp_path / ("file.onnx" if "onnx" in options else "file.safetensors")
        assert cli.main(["export", str(run_dir), f"--to={file}", *options]) != 0
        assert not file.exists()
        return capsys.readouterr().err

    assert "--format pt2 requires --part" in refused("--format", "pt2")
    assert "--step cannot be used with --part" in refused("--part", "encoder", "--step", "20")
    assert "--num must be at least 1, got 0" in refused("--part", "sampler", "--num", "0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'fastvae[onnx]'" in refused("--part", "encoder", "--format", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_pt2_file_agrees_with_the_run(run: LoadedRun, run_dir: Path, tmp_path: Path, part: str) -> None:
    file = tmp_path / f"{part}.pt2"
    words = ["export", str(run_dir), f"--to={file}", "--format", "pt2", "--part", part, "--num", str(NUM)]
    assert cli.main(words) == 0
    extra = {"fastvae.json": ""}
    found = torch.export.load(file, extra_files=extra).module()(**arguments(run, part))
    assert_same(list(found), expected(run, part))
    about = json.loads(extra["fastvae.json"])
    assert json.loads(about["inputs"]) == list(arguments(run, part))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", PARTS)
def test_an_onnx_file_agrees_with_the_run(run: LoadedRun, run_dir: Path, tmp_path: Path, part: str) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / f"{part}.onnx"
    words = ["export", str(run_dir), f"--to={file}", "--format", "onnx", "--part", part, "--num", str(NUM)]
    assert cli.main(words) == 0
    session = onnxruntime.InferenceSession(str(file))
    found = session.run(None, {name: x.numpy() for name, x in arguments(run, part).items()})
    assert_same([torch.from_numpy(x) for x in found], expected(run, part))
    assert session.get_modelmeta().custom_metadata_map["part"] == part
