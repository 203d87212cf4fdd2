"""The kind of a run's data, and the options that are for one kind of data only."""

from __future__ import annotations

from fastvae.data import DataConfig

KIND_OPTIONS: dict[str, tuple[str, ...]] = {
    "pixels": ("images", "binarize", "dequantize"),
    "text": ("text",),
    "audio": ("audio",),
    "table": ("table",),
    "interactions": ("interactions",),
}
"""For each kind of data the fields of `DataConfig` that no other kind reads."""

_OWN = ("text", "audio", "table", "interactions")  # names of one's own data that say their kind
_NAMED = {"breast-cancer": "table", "sst2": "text", "movielens-100k": "interactions", "spoken-digits": "audio"}


def kind_of(config: DataConfig) -> str | None:
    """The kind of the data: pixels, text, audio, table or interactions; None for a path that is not yet recognised."""
    if config.name == "file":
        return None
    return config.name if config.name in _OWN else _NAMED.get(config.name, "pixels")
