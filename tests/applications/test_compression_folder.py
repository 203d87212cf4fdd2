"""A folder of images is compressed to one archive and restored with the same names and pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae import cli
from fastvae.applications.compression import compress_file, decompress_file
from fastvae.applications.compression.container import pack_bytes, read_container, write_container
from fastvae.data import as_data
from fastvae.run import LoadedRun
from tests.applications.test_compression import make_run


def run_of(channels: int = 1, highest: int = 255) -> LoadedRun:
    """A run on images of 6 x 4 pixels."""
    pixels = np.random.default_rng(0).integers(0, highest + 1, (40, channels, 4, 6), dtype=np.uint8)
    return make_run(as_data(torch.from_numpy(pixels)), "bernoulli" if highest == 1 else "discretized-logistic")


def write_folder(folder: Path, channels: int, highest: int = 255) -> dict[str, np.ndarray]:
    """Write images and other files; returns the pixels by the names of the restored files."""
    (folder / "cat").mkdir(parents=True)
    rng, found = np.random.default_rng(1), {}
    for name in ("b.png", "a.bmp", "cat/c.tif", "cat/d e.PNG", "ünï.webp", "f.jpg"):
        pixels = rng.integers(0, highest + 1, (4, 6) if channels == 1 else (4, 6, 3), dtype=np.uint8)
        if channels == 1 and name.endswith("webp"):  # which Pillow writes in colour
            continue
        pixels = pixels * 255 if highest == 1 else pixels
        options = {"lossless": True} if name.endswith("webp") else {"quality": 100} if name.endswith("jpg") else {}
        if highest == 1 and name == "f.jpg":
            continue
        Image.fromarray(pixels).save(folder / name, **options)
        restored = name if name.lower().endswith(("png", "bmp", "tif")) else f"{name}.png"
        with Image.open(folder / name) as image:
            found[restored] = np.array(image.convert("L" if channels == 1 else "RGB"))
    (folder / "._b.png").write_bytes(b"hidden")
    (folder / "notes.txt").write_text("a note")
    return found


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): np.array(Image.open(path)) for path in files}


@pytest.mark.parametrize(("channels", "highest"), [(1, 255), (3, 255), (1, 1)])
def test_a_folder_is_restored_with_its_names_and_pixels(tmp_path: Path, channels: int, highest: int) -> None:
    run, expected = run_of(channels, highest), write_folder(tmp_path / "images", channels, highest)
    report = compress_file(run, tmp_path / "images", tmp_path / "x.fvc")
    assert report.num_examples == len(expected)
    assert report.file_bytes == (tmp_path / "x.fvc").stat().st_size
    assert report.folder is not None
    assert all(words in report.folder for words in (f"{len(expected)} images read", "1 hidden", "1 .txt"))
    decompress_file(run, tmp_path / "x.fvc", tmp_path / "new" / "back")
    found = read_folder(tmp_path / "new" / "back")
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        np.testing.assert_array_equal(found[name], pixels)


def test_a_lossy_archive_restores_the_reconstructions_of_the_array(tmp_path: Path) -> None:
    run, expected = run_of(), write_folder(tmp_path / "images", 1)
    names = sorted(path for path in (tmp_path / "images").rglob("*") if path.suffix not in (".txt",) and path.is_file())
    names = [path for path in names if not path.name.startswith(".")]
    pixels = np.stack([np.array(Image.open(path).convert("L")) for path in names])
    np.save(tmp_path / "x.npy", pixels)
    for data, out in (("images", "folder"), ("x.npy", "array")):
        compress_file(run, tmp_path / data, tmp_path / f"{out}.fvc", step=1.0)
        decompress_file(run, tmp_path / f"{out}.fvc", tmp_path / out)
    found = read_folder(tmp_path / "folder")
    assert found.keys() == expected.keys()
    with (tmp_path / "array").open("rb") as file:
        array = np.load(file)
    by_source = {
        path.relative_to(tmp_path / "images").as_posix(): image for path, image in zip(names, array, strict=True)
    }
    for name, image in found.items():
        source = name if name in by_source else name.removesuffix(".png")
        np.testing.assert_array_equal(image, by_source[source])


def saved(folder: Path, image: Image.Image, name: str = "odd.png", **options: object) -> Path:
    folder.mkdir()
    Image.new("L", (6, 4)).save(folder / "fine.png")
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.new("L", (8, 4)), "has 8 x 4 pixels, and the run's images have 6 x 4; resize it"),
        (Image.new("RGB", (6, 4)), "is in colour, and the run's images are grey"),
        (Image.new("LA", (6, 4)), "has transparent pixels, which the archive does not keep"),
        (Image.new("I;16", (6, 4)), "must have 8 bits per channel"),
    ],
    ids=["size", "colour", "transparent", "16 bits"],
)
def test_an_image_that_the_archive_cannot_restore_is_refused(tmp_path: Path, image: Image.Image, words: str) -> None:
    folder = saved(tmp_path / "images", image)
    with pytest.raises(ValueError, match=words) as caught:
        compress_file(run_of(), folder, tmp_path / "x.fvc")
    assert "odd.png" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.fvc").exists()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    run = run_of()
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"0 images read .*give a folder of images"):
        compress_file(run, tmp_path / "none", tmp_path / "x.fvc")
    frames = [Image.new("L", (6, 4), grey) for grey in (0, 99)]
    folder = saved(tmp_path / "frames", frames[0], "odd.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"odd.tif: has several frames"):
        compress_file(run, folder, tmp_path / "x.fvc")
    folder = saved(tmp_path / "grey", Image.new("L", (6, 4), 37))
    Image.new("L", (6, 4), 255).save(folder / "white.png")
    with pytest.raises(ValueError, match=r"odd.png: must be black and white for this model, got the grey value 37"):
        compress_file(run_of(highest=1), folder, tmp_path / "x.fvc")
    folder = saved(tmp_path / "twice", Image.new("L", (6, 4)), "a.jpg.png")
    Image.new("L", (6, 4)).save(folder / "a.jpg")
    with pytest.raises(ValueError, match=r"two images would be restored as a.jpg.png; rename one"):
        compress_file(run, folder, tmp_path / "x.fvc")
    vectors = make_run(as_data(torch.randint(0, 256, (30, 24), dtype=torch.uint8)), "discretized-logistic")
    with pytest.raises(ValueError, match=r"trained on numbers of shape \[24\], not on images; give a .npy file"):
        compress_file(vectors, folder, tmp_path / "x.fvc")


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png", "", "a.py", "twice.png"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    run = run_of()
    folder = saved(tmp_path / "images", Image.new("L", (6, 4), 9))
    compress_file(run, folder, tmp_path / "x.fvc")
    header, words = read_container(tmp_path / "x.fvc")
    fields = json.loads(header.prefix_bytes)
    fields["names"] = ["twice.png", name]
    object.__setattr__(header, "prefix", pack_bytes(json.dumps(fields).encode()))
    write_container(tmp_path / "x.fvc", header, words)
    with pytest.raises(ValueError, match=r"x.fvc: .*names of the images are damaged"):
        decompress_file(run, tmp_path / "x.fvc", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_archive_of_a_folder_needs_a_new_folder(tmp_path: Path) -> None:
    run = run_of()
    compress_file(run, saved(tmp_path / "images", Image.new("L", (6, 4), 9)), tmp_path / "x.fvc")
    for out in ("images", "x.fvc"):
        with pytest.raises(ValueError, match=r"--out: the archive holds a folder of images, and .* exists"):
            decompress_file(run, tmp_path / "x.fvc", tmp_path / out)
    (tmp_path / "empty").mkdir()
    decompress_file(run, tmp_path / "x.fvc", tmp_path / "empty")
    assert sorted(read_folder(tmp_path / "empty")) == ["fine.png", "odd.png"]
    np.save(tmp_path / "x.npy", np.zeros((3, 1, 4, 6), dtype=np.uint8))
    compress_file(run, tmp_path / "x.npy", tmp_path / "y.fvc")
    with pytest.raises(ValueError, match=r"--out: must be a file, .* is a folder"):
        decompress_file(run, tmp_path / "y.fvc", tmp_path / "images")


def test_the_command_reports_a_folder_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = saved(tmp_path / "images", Image.new("L", (6, 4), 9)), run_of()
    monkeypatch.setattr("fastvae.run.load", lambda directory: run)
    words = ["compress", "run", f"--data={folder}", f"--out={tmp_path / 'x.fvc'}"]
    assert cli.main(words) == 0
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("2 images read (2 .png)", "48 bytes of pixels", "ratio ", "bits per pixel"):
        assert part in line
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_examples"] == 2
