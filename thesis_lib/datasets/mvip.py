"""Reader of MVIP (EIBA): photographs of used industrial parts from calibrated cameras (arXiv 2502.15448).

Expects the folder that holds one folder a part::

    <class>/meta.json
    <class>/train_data/<position>/<rotation>/cam_XX/XX_rgb.png + XX_rgb_mask_gen.png
    <class>/valid_data|test_data/<sample>/cam_XX/...                                    one level less
    <class>/field_data/<sample>/cam_XX/...       not in MVIP: the bundled parts' changed conditions

The release's quirks are handled here: the position `background` shows no part, `XX_rgb_mean.png` is no photograph,
`meta.json` misspells names, may lack its super class and may describe in free text.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_lib.datasets.table import build_table, choose_classes, data_root, subfolders
from thesis_lib.errors import ThesisError, ThesisWarning

SPLIT_FOLDERS = {"train_data": "train", "valid_data": "valid", "test_data": "test", "field_data": "field"}
PICTURE_ENDINGS = ("_rgb.png", "_rgb.webp")
SUPER_CLASS_SPELLING = {"CarComponents": "CarComponent"}
NARROWER = {
    "CarComponent": ("Generator", "Starter", "CommonRailInjector", "Caliper", "Servopump", "MassAirFlowMeter"),
    "Tool": ("Tongs", "Screwdriver", "Wrench", "Drill"),
    "MetalPart": ("Screw",),
}
VALUE_SPELLING = {"Iro": "Iron", "silver": "Grey", "Edges": "Edgy", "high": "High", "no weight": "Light"}


def read_mvip(root: str | Path, super_class: str | None = None, num_classes: int | None = None) -> pd.DataFrame:
    """Read MVIP's folder of parts into an image table, one row a single view.

    Args:
        root: The folder of class folders (MVIP's `sets`). Hidden folders are not looked at.
        super_class: Only classes with this super class, also where only a narrower name says so; none for all.
        num_classes: The first so many of these in sorted order; none for all.

    Returns:
        The table of `thesis_lib.datasets.table`. `view` is the camera's folder, `set` is ``<position>_<rotation>`` in
        train and the sample elsewhere, `capture_group` is ``<class>/<split>/<set>``; `attributes` as in `read_meta`.

    Raises:
        ThesisError: The folder is missing or has no classes, the super class is unknown, a `meta.json` is unreadable,
            a chosen class has no training pictures or a name that is not safe in paths.

    Warns:
        ThesisWarning: There are fewer classes than asked for, or pictures without a mask.
    """
    folder = data_root(root, "the folder that holds MVIP's class folders")
    parts = {part.name: read_meta(part / "meta.json") for part in subfolders(folder)}
    if not parts:
        raise ThesisError(f"{folder} has no class folders: data.root must be the folder that holds one folder a part")
    if super_class is not None:
        wanted = SUPER_CLASS_SPELLING.get(super_class, super_class)
        known = sorted({name for meta in parts.values() for name in meta.get("super_class", [])})
        if wanted not in known:
            raise ThesisError(f"{folder} has no super class {super_class}; there are: {', '.join(known) or 'none'}")
        parts = {name: meta for name, meta in parts.items() if wanted in meta.get("super_class", [])}
    classes = choose_classes(parts, num_classes, folder)
    described = any(parts[name] for name in classes)
    rows: list[dict[str, Any]] = []
    for label, name in enumerate(classes):
        views = list(_views(folder, name))
        if not any(row["split"] == "train" for row in views):
            raise ThesisError(
                f"{folder / name}: class {name} has no training pictures (expected "
                f"{name}/train_data/<position>/<rotation>/cam_XX/XX_rgb.png): complete the folder or move it away"
            )
        extra = {"attributes": json.dumps(parts[name], sort_keys=True, ensure_ascii=False)} if described else {}
        rows += [{**row, "class_name": name, "label": label, **extra} for row in views]
    table = build_table(rows, folder)
    unmasked = table["source_id"][table["mask_path"] == ""]
    if len(unmasked):
        first = unmasked.iloc[0]
        warnings.warn(
            f"{folder}: {len(unmasked)} of {len(table)} pictures have no mask, {first} first",
            ThesisWarning,
            stacklevel=2,
        )
    return table


def read_meta(file: Path) -> dict[str, Any]:
    """A class's description with its misspellings mended.

    Returns:
        ``super_class`` (sorted list, wider names added), the description's attributes (each a list), ``size_mm``,
        ``weight_kg``: each only where the file has it; nothing where there is no file.

    Raises:
        ThesisError: The file is no JSON object.
    """
    if not file.is_file():
        return {}
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ThesisError(f"{file} is not valid JSON ({error}): mend or replace the file") from None
    if not isinstance(meta, dict):
        raise ThesisError(f"{file} is no JSON object with super_class and description: mend or replace the file")
    described = meta.get("description")
    description = described if isinstance(described, dict) else {}  # in some classes it is a sentence
    result = {key: _mended(value, VALUE_SPELLING) for key, value in description.items() if key != "SuperClasses"}
    names = {name for name in _mended(meta.get("super_class"), SUPER_CLASS_SPELLING) if isinstance(name, str) and name}
    names |= {wider for wider, narrower in NARROWER.items() if names.intersection(narrower)}
    more = {"super_class": sorted(names), "size_mm": meta.get("size"), "weight_kg": meta.get("weight")}
    return result | {key: value for key, value in more.items() if value not in (None, [])}


def _mended(value: Any, spelling: dict[str, str]) -> list[Any]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [spelling.get(v.strip(), v.strip()) if isinstance(v, str) else v for v in values]


def _views(root: Path, name: str) -> Iterator[dict[str, Any]]:
    """The rows of one class, without its name and label."""
    for split_folder, split in SPLIT_FOLDERS.items():
        for position in subfolders(root / name / split_folder):
            if position.name == "background":
                continue
            for group in subfolders(position) if split == "train" else [position]:
                set_name = f"{position.name}_{group.name}" if split == "train" else group.name
                fixed = {"split": split, "capture_group": f"{name}/{split}/{set_name}", "set": set_name}
                for camera in subfolders(group):
                    if camera.name.startswith("cam"):
                        yield from ({**row, **fixed, "view": camera.name} for row in photographs(root, camera))


def photographs(root: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """The photographs directly in `folder`, sorted: `path`, `mask_path`, `source_id` (relative to `root`).

    The mask is looked up by the picture's own name, never by its place in a list (erratum 11).
    """
    for picture in sorted(folder.iterdir()):
        if picture.name.endswith(PICTURE_ENDINGS) and not picture.name.startswith("."):
            mask = picture.with_name(f"{picture.stem}_mask_gen.png")
            source_id = picture.relative_to(root).with_suffix("").as_posix()
            yield {"path": str(picture), "mask_path": str(mask) if mask.is_file() else "", "source_id": source_id}
