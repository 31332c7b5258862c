"""Data sets: the image table (one row a picture), the readers that fill it, few-shot selection, square crops."""

from thesis_lib.datasets.crops import PreparedSet
from thesis_lib.datasets.folder import read_folder, read_folder_ood
from thesis_lib.datasets.mvip import read_mvip
from thesis_lib.datasets.parts import PARTS_CORPUS, read_parts, read_parts_ood, read_parts_oracle
from thesis_lib.datasets.prepare import PreparedData, prepare_data, read_tables
from thesis_lib.datasets.table import few_shot, view_sets

__all__ = [
    "PARTS_CORPUS",
    "PreparedData",
    "PreparedSet",
    "few_shot",
    "prepare_data",
    "read_folder",
    "read_folder_ood",
    "read_mvip",
    "read_parts",
    "read_parts_ood",
    "read_parts_oracle",
    "read_tables",
    "view_sets",
]
