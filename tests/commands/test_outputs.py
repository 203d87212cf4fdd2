"""Every command writes the format that the ending of its output file names, or refuses it with the endings that it can
write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastvae
from fastvae import cli
from fastvae.commands.options import PICTURES, output_path

WORDS = "--train.steps=2 --train.final-samples=1 --train.no-pictures --model.hidden-dim 8 --model.latent-dim=3".split()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("outputs") / "run"
    assert cli.main(["train", "digits", f"--run-dir={directory}", *WORDS]) == 0
    assert cli.main(["encode", str(directory), f"--out={directory.parent / 'latents.npz'}"]) == 0
    return directory


def is_numbers(*names: str) -> Callable[[Path], bool]:
    def check(path: Path) -> bool:
        with np.load(path, allow_pickle=False) as arrays:
            return set(names) == set(arrays.files)

    return check


def is_picture(path: Path) -> bool:
    if path.suffix in (".pdf", ".svg"):
        return path.read_bytes()[:5] in (b"%PDF-", b"<?xml")
    with Image.open(path) as image:
        form = image.format or ""
    return form.lower() in {".jpg": "jpeg", ".tif": "tiff"}.get(path.suffix, path.suffix[1:]).lower()


def is_csv(path: Path) -> bool:
    lines = path.read_text().splitlines()
    return len(lines) > 2 and lines[0].count(",") == lines[1].count(",") > 0


EXAMPLES = {
    "sample --num=2": is_numbers("examples"),
    "decode --data=latents.npz": is_numbers("examples"),
    "reconstruct --num=2": is_numbers("originals", "reconstructions"),
    "interpolate --first=0 --second=1 --steps=3": is_numbers("examples"),
    "traverse --dimensions=1 --steps=3": is_numbers("examples"),
}
"""Commands that write examples, and what their .npz file holds."""
FILES: dict[str, tuple[tuple[str, ...], Callable[[Path], bool]]] = {
    "encode": ((".npz",), is_numbers("mu", "logvar", "label")),
    "score": ((".csv",), is_csv),
    "export": ((".safetensors",), Path.is_file),
    "export --part=encoder": ((".safetensors",), Path.is_file),
}
"""Commands that write one format."""
ODD = (".txt", ".npy", ".foo")


def words_of(command: str, run_dir: Path, out: Path) -> list[str]:
    name, *options = command.replace("latents.npz", str(run_dir.parent / "latents.npz")).split()
    return [name, str(run_dir), *options, f"{'--to' if name == 'export' else '--out'}={out}"]


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_are_written_as_pictures_or_numbers(
    command: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endings = PICTURES if command.startswith("sample") else (".png", ".pdf")
    for ending, check in [
        (".npz", EXAMPLES[command]),
        (".NPZ", EXAMPLES[command]),
        *((e, is_picture) for e in endings),
    ]:
        out = tmp_path / "new" / f"x{ending}"
        assert cli.main(words_of(command, run_dir, out)) == 0
        assert capsys.readouterr().out.strip() == str(out)
        assert check(out)
    assert cli.main(words_of(command, run_dir, tmp_path / "folder")) == 0
    assert [is_picture(path) for path in (tmp_path / "folder").iterdir()] == [True]
    for ending in ODD:
        assert cli.main(words_of(command, run_dir, tmp_path / f"x{ending}")) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert (
            f"--out: the file must end in .png, .jpg, .jpeg, .pdf, .svg, .tif, .tiff, .webp or .npz, got x{ending}"
            in error
        )
        assert not (tmp_path / f"x{ending}").exists()


@pytest.mark.parametrize("command", FILES)
def test_one_format_is_written_or_another_is_refused(
    command: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endings, check = FILES[command]
    for ending in endings:
        assert cli.main(words_of(command, run_dir, tmp_path / "new" / f"x{ending}")) == 0
        assert check(tmp_path / "new" / f"x{ending}")
    capsys.readouterr()
    for ending in (*ODD, ".png", ""):
        assert cli.main(words_of(command, run_dir, tmp_path / f"x{ending}")) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f": the file must end in {endings[0]}, got x{ending}; name it x{endings[0]}" in error
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        ("anomaly-report", ".csv"),
        ("recommend --data=users.csv", ".csv"),
        ("compress --data=x.npy", ".fvc"),
        ("probe", ".png, .jpg, .jpeg, .pdf, .svg, .tif, .tiff or .webp"),
        ("export --part=encoder --format=pt2", ".pt2"),
        ("export --part=encoder --format=onnx", ".onnx"),
    ],
)
def test_other_commands_refuse_an_odd_ending_before_their_work(
    command: str, ending: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for odd in (".foo", ""):
        assert cli.main(words_of(command, run_dir, tmp_path / f"x{odd}")) == 2
        assert f": the file must end in {ending}, got x{odd}; name it x." in capsys.readouterr().err
    assert cli.main(words_of(command, run_dir, tmp_path)) == 2
    assert f"must be a file, {tmp_path} is a folder; add a name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_another_export_format_is_refused(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words_of("export --part=encoder", run_dir, tmp_path / "x.onnx")) == 2
    assert (
        "x.onnx is the name of another format, got --format safetensors; set --format onnx" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("kind", "written", "refused", "words"),
    [
        ("text", ["x.txt", "x.npz", "folder"], ["x.png", "x.wav", "x.foo"], "must end in .txt or .npz"),
        ("interactions", ["x.txt", "x.npz"], ["x.csv"], "must end in .txt or .npz"),
        ("table", ["x.csv", "x.npz", "folder"], ["x.txt", "x.xlsx"], "must end in .csv or .npz"),
        ("audio", ["folder", "x.npz"], ["x.wav", "x.mp3", "x.foo"], "written to a folder of WAV files, or as numbers"),
    ],
)
def test_other_kinds_have_other_endings(
    run_dir: Path, tmp_path: Path, kind: str, written: list[str], refused: list[str], words: str
) -> None:
    run = fastvae.load(run_dir)
    run = replace(run, data=replace(run.data, kind=kind))
    for name in written:
        assert output_path(run, tmp_path / name, "samples").is_relative_to(tmp_path / name)
    for name in refused:
        with pytest.raises(ValueError, match=words):
            output_path(run, tmp_path / name, "samples")


def test_a_device_may_have_any_name(run_dir: Path) -> None:
    assert cli.main(["score", str(run_dir), "--out=/dev/null"]) == 0
