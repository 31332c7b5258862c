"""Tiny real data sets on disk."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Draw = Callable[..., Path]


def draw(
    path: Path, mask_path: Path | None = None, size: tuple[int, int] = (24, 20), box: Any = (6, 5, 14, 13)
) -> Path:
    """Write a grey picture with a bright object at `box` (left, top, right, bottom; None for none) and its mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = 90 + sum(path.as_posix().encode()) % 60
    pixels = np.full((size[1], size[0], 3), shade, np.uint8)
    mask = np.zeros((size[1], size[0]), bool)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = True
        pixels[mask] = (220, 200, 180)
    Image.fromarray(pixels).save(path)
    if mask_path is not None:
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(mask_path)
    return path


def draw_view(folder: Path, camera: int = 1, ending: str = "png", mask: bool = True, **more: Any) -> Path:
    """One camera's files as MVIP has them, with those no loader may take."""
    name = f"{camera:02d}"
    view = folder / f"cam_{name}"
    draw(view / f"{name}_rgb.{ending}", view / f"{name}_rgb_mask_gen.png" if mask else None, **more)
    draw(view / f"{name}_rgb_mean.png", view / f"{name}_rgb_mean_mask_gen.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(view / f"{name}_depth.png")
    (view / f"{name}_meta.json").write_text("{}")
    return view


def draw_part(
    root: Path, name: str, meta: Any = None, positions: int = 2, rotations: int = 2, cameras: int = 2
) -> Path:
    """One class folder in MVIP's layout with train, valid and test pictures and a background position."""
    part = root / name
    part.mkdir(parents=True)
    if meta is not None:
        (part / "meta.json").write_text(json.dumps(meta))
    for camera in range(1, cameras + 1):
        for position in [*map(str, range(positions)), "background"]:
            for rotation in range(rotations):
                draw_view(part / "train_data" / position / str(rotation), camera)
        for split in ("valid_data", "test_data"):
            draw_view(part / split / "0", camera)
    return part


@pytest.fixture(name="draw")
def _draw() -> Draw:
    return draw


@pytest.fixture(name="draw_view")
def _draw_view() -> Draw:
    return draw_view


@pytest.fixture(name="draw_part")
def _draw_part() -> Draw:
    return draw_part


@pytest.fixture
def mvip(tmp_path: Path) -> Path:
    """Four classes; three of them car components, each spelled differently."""
    root = tmp_path / "sets"
    draw_part(root, "starter_b", {"super_class": ["Starter"]})
    draw_part(root, "generator_a", {"super_class": ["CarComponent", "Generator"], "size": [1, 2, 3], "weight": 0.5})
    draw_part(root, "caliper_c", {"super_class": ["CarComponents"], "description": "a rusty caliper"})
    draw_part(root, "drill_d", {"super_class": ["Drill"], "description": {"Material": ["Iro", "Steel"]}})
    return root


@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that lists folders backwards."""
    listed = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        return iter(sorted(listed(self), reverse=True))

    monkeypatch.setattr(Path, "iterdir", iterdir)
