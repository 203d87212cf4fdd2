"""Data: sources of examples, their order, and the batches that a step of training or evaluation reads."""

from fastvae.data.config import DataConfig, build_data
from fastvae.data.dataset import Data, as_data
from fastvae.data.loader import Loader, MicroBatch, evaluation_batches
from fastvae.data.order import order_index, share
from fastvae.data.preprocess import Preprocess
from fastvae.data.source import Source, as_source

__all__ = [
    "Data",
    "DataConfig",
    "Loader",
    "MicroBatch",
    "Preprocess",
    "Source",
    "as_data",
    "as_source",
    "build_data",
    "evaluation_batches",
    "order_index",
    "share",
]
