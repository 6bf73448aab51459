"""Data sets, their parts, scales and batches. What there is: docs/data.md."""

from ds_core.data.class_weights import class_weights
from ds_core.data.datasets import DATA_SETS, DataSet, load
from ds_core.data.download import DownloadError, cache_folder, download
from ds_core.data.idx import read_idx
from ds_core.data.loader import Loader
from ds_core.data.one_hot import one_hot
from ds_core.data.prefetch import Prefetch
from ds_core.data.samples import Stacked, stack
from ds_core.data.scaling import MinMax, Standardise
from ds_core.data.splits import k_folds, split, split_indices
from ds_core.data.tables import Table, read_csv
from ds_core.data.tensor_dataset import TensorDataset

__all__ = [
    "DATA_SETS",
    "DataSet",
    "DownloadError",
    "Loader",
    "MinMax",
    "Prefetch",
    "Stacked",
    "Standardise",
    "Table",
    "TensorDataset",
    "cache_folder",
    "class_weights",
    "download",
    "k_folds",
    "load",
    "one_hot",
    "read_csv",
    "read_idx",
    "split",
    "split_indices",
    "stack",
]
