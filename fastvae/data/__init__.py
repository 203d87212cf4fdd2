"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from typing import TYPE_CHECKING

from fastvae.lazy import lazy_names

if TYPE_CHECKING:
    from fastvae.data.audio.config import AudioConfig
    from fastvae.data.audio.preprocess import LogMelPreprocess
    from fastvae.data.condition import ConditionField, Conditions, Field, NumberField
    from fastvae.data.config import VALIDATION_SHARE, DataConfig
    from fastvae.data.dataset import Data, State, condition_on, hold_out
    from fastvae.data.kind import Form, Handlers, Kind, Renderer
    from fastvae.data.kinds import KINDS, kind_of, kind_options, register_kind, resolve
    from fastvae.data.loading.evaluation import evaluation_batch, evaluation_batches, load_examples
    from fastvae.data.loading.loader import Loader
    from fastvae.data.loading.micro_batches import MicroBatch
    from fastvae.data.loading.prefetch import LoadError, Prefetcher
    from fastvae.data.loading.settings import Loading
    from fastvae.data.objects import as_source
    from fastvae.data.order import order_index, share
    from fastvae.data.pixels.arrays import as_data
    from fastvae.data.pixels.config import ImagesConfig
    from fastvae.data.pixels.numbers import NumberRenderer
    from fastvae.data.pixels.preprocess import Preprocess
    from fastvae.data.preprocess import Preprocessor
    from fastvae.data.registry import build_data, find_renderer, read_source
    from fastvae.data.restore import DESCRIPTION, MissingSource, describe
    from fastvae.data.source import Draws, Source
    from fastvae.data.text.config import TextDataConfig

__all__ = [
    "DESCRIPTION",
    "KINDS",
    "VALIDATION_SHARE",
    "AudioConfig",
    "ConditionField",
    "Conditions",
    "Data",
    "DataConfig",
    "Draws",
    "Field",
    "Form",
    "Handlers",
    "ImagesConfig",
    "Kind",
    "LoadError",
    "Loader",
    "Loading",
    "LogMelPreprocess",
    "MicroBatch",
    "MissingSource",
    "NumberField",
    "NumberRenderer",
    "Prefetcher",
    "Preprocess",
    "Preprocessor",
    "Renderer",
    "Source",
    "State",
    "TextDataConfig",
    "as_data",
    "as_source",
    "build_data",
    "condition_on",
    "describe",
    "evaluation_batch",
    "evaluation_batches",
    "find_renderer",
    "hold_out",
    "kind_of",
    "kind_options",
    "load_examples",
    "order_index",
    "read_source",
    "register_kind",
    "resolve",
    "share",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "audio.preprocess": ("LogMelPreprocess",),
        "condition": ("ConditionField", "Conditions", "Field", "NumberField"),
        "audio.config": ("AudioConfig",),
        "config": ("VALIDATION_SHARE", "DataConfig"),
        "text.config": ("TextDataConfig",),
        "dataset": ("Data", "State", "condition_on", "hold_out"),
        "kind": ("Form", "Handlers", "Kind", "Renderer"),
        "kinds": ("KINDS", "kind_of", "kind_options", "register_kind", "resolve"),
        "loading.evaluation": ("evaluation_batch", "evaluation_batches", "load_examples"),
        "loading.loader": ("Loader",),
        "loading.micro_batches": ("MicroBatch",),
        "objects": ("as_source",),
        "order": ("order_index", "share"),
        "loading.prefetch": ("LoadError", "Prefetcher"),
        "loading.settings": ("Loading",),
        "pixels.arrays": ("as_data",),
        "pixels.config": ("ImagesConfig",),
        "pixels.numbers": ("NumberRenderer",),
        "pixels.preprocess": ("Preprocess",),
        "preprocess": ("Preprocessor",),
        "registry": ("build_data", "find_renderer", "read_source"),
        "restore": ("DESCRIPTION", "MissingSource", "describe"),
        "source": ("Draws", "Source"),
    },
)
