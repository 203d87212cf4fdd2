"""Images and plain numbers as a kind of data."""

from __future__ import annotations

from dataclasses import asdict

from fastvae.data.kind import Form, Handlers, Kind


def _handlers() -> Handlers:
    from fastvae.data.pixels import own
    from fastvae.data.pixels.preprocess import Preprocess
    from fastvae.data.pixels.published import DATASETS
    from fastvae.data.pixels.render import renderer_of

    return Handlers(
        datasets=DATASETS,
        forms=(
            Form("an .npy or .npz file", own.is_array_file, own.load_own_arrays, own.read_arrays),
            Form("a folder of .npy shards", own.holds_npy_shards, own.load_npy_shards, own.read_npy_shards),
            Form("a folder of .tar shards", own.holds_tar_shards, own.load_tar_shards, own.read_tar_shards),
            Form("a folder of images", own.holds_images, own.load_own_images, own.read_images),
        ),
        preprocess=Preprocess,
        read_object=own.read_objects,
        describe=asdict,
        restore=lambda state, described: Preprocess(**described),
        renderer=renderer_of,
    )


KIND = Kind(
    name="pixels",
    datasets=("digits", "digits-raw", "mnist", "fashion-mnist", "cifar10", "frey-faces"),
    options=("images", "binarize", "dequantize"),
    takes_any_path=True,
    load_handlers=_handlers,
)
