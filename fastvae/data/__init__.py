"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.data.audio.config import AudioConfig
    from fastvae.data.audio.preprocess import LogMelPreprocess
    from fastvae.data.condition import ConditionField, Conditions, Field, NumberField
    from fastvae.data.config import DataConfig
    from fastvae.data.dataset import Data, State, as_data, condition_on
    from fastvae.data.loading.loader import Loader, MicroBatch, evaluation_batches, load_examples
    from fastvae.data.loading.prefetch import LoadError, Prefetcher
    from fastvae.data.order import order_index, share
    from fastvae.data.preprocess import Preprocess, Preprocessor
    from fastvae.data.registry import DATASETS, RECOGNIZERS, Recognizer, build_data, read_source
    from fastvae.data.restore import DESCRIPTION, MissingSource, describe
    from fastvae.data.source import Source, as_source
    from fastvae.data.text.config import TextDataConfig

__all__ = [
    "DATASETS",
    "DESCRIPTION",
    "RECOGNIZERS",
    "AudioConfig",
    "ConditionField",
    "Conditions",
    "Data",
    "DataConfig",
    "Field",
    "LoadError",
    "Loader",
    "LogMelPreprocess",
    "MicroBatch",
    "MissingSource",
    "NumberField",
    "Prefetcher",
    "Preprocess",
    "Preprocessor",
    "Recognizer",
    "Source",
    "State",
    "TextDataConfig",
    "as_data",
    "as_source",
    "build_data",
    "condition_on",
    "describe",
    "evaluation_batches",
    "load_examples",
    "order_index",
    "read_source",
    "share",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "audio.preprocess": ("LogMelPreprocess",),
        "condition": ("ConditionField", "Conditions", "Field", "NumberField"),
        "audio.config": ("AudioConfig",),
        "config": ("DataConfig",),
        "text.config": ("TextDataConfig",),
        "dataset": ("Data", "State", "as_data", "condition_on"),
        "loading.loader": ("Loader", "MicroBatch", "evaluation_batches", "load_examples"),
        "order": ("order_index", "share"),
        "loading.prefetch": ("LoadError", "Prefetcher"),
        "preprocess": ("Preprocess", "Preprocessor"),
        "registry": ("DATASETS", "RECOGNIZERS", "Recognizer", "build_data", "read_source"),
        "restore": ("DESCRIPTION", "MissingSource", "describe"),
        "source": ("Source", "as_source"),
    },
)
