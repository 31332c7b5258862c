import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from thesis_lib.datasets.crops import PreparedSet
from thesis_lib.diffusion.augmentation import Request, as_seen, augment, schedule
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.sections import GenerationParameters, SetParameters
from thesis_lib.widgets import grid as module
from thesis_lib.widgets.grid import GRID_FILE, Axes, PictureGrid, spread_timesteps

P = GenerationParameters(
    steps=10, sources=2, per_source=1, batch=4,
    id=SetParameters(timesteps=[300], guidance_scales=[2.0]),
    near_ood=SetParameters(strengths=[0.6], guidance_scales=[2.0]),
)  # fmt: skip
AXES = Axes([1, 201], [2.0, 1.0], ["a photo of a {}", "a photo of a rusty {}"], ["object", "none"])


@pytest.fixture
def prepared(shots) -> PreparedSet:
    table, pictures, masks = shots
    return PreparedSet(table, pictures, masks)


@pytest.fixture
def make_grid(tiny_base, prepared, tmp_path: Path):
    concepts = Concepts(tiny_base, {}, list(prepared.table["class_name"].unique()))

    def make(axes: Axes | None = AXES, shots: PreparedSet = prepared, p: GenerationParameters = P) -> PictureGrid:
        return PictureGrid(tiny_base, concepts, shots, p, 0, tmp_path, axes)

    return make


def test_timesteps_spread_over_the_schedule_and_hold_those_of_both_sets(tiny_base):
    fifty = GenerationParameters(id=SetParameters(timesteps=[200]), near_ood=SetParameters(strengths=[0.5]))
    assert spread_timesteps(tiny_base, fifty) == [41, 181, 321, 481, 641]
    few = P.model_copy(update={"steps": 3, "id": SetParameters(timesteps=[1])})
    assert set(spread_timesteps(tiny_base, few)) <= set(schedule(tiny_base, 3))


def test_axes_come_from_the_parameters_and_are_filled_up(make_grid):
    axes = make_grid(None).axes
    assert axes.guidance_scales == [2.0, 1.0, 4.0] and axes.regions[0] == "object" and len(axes.regions) == 4
    assert len(axes.prompts) == 3 and axes.prompts[0] == "a photo of a {}"
    six = P.id.model_copy(update={"prompts": [f"{word} {{}}" for word in "abcdef"]})
    assert make_grid(None, p=P.model_copy(update={"id": six, "near_ood": six})).axes.prompts == ["a {}", "c {}", "f {}"]


def test_axes_of_ones_own_are_put_on_the_schedule(make_grid):
    assert make_grid(replace(AXES, timesteps=[950, 250, 240])).axes.timesteps == [201, 901]


def test_the_table_names_each_unit_and_the_sets(make_grid):
    table = make_grid(None).timestep_table().set_index("timestep")
    assert table.loc[201, "set"] == "id" and table.loc[201, "steps"] == 3 and table.loc[201, "strength"] == 0.3
    assert table.loc[501, "set"] == "near_ood" and table["snr"].is_monotonic_decreasing


def test_positions_are_varied_one_at_a_time_and_cover_the_classes(make_grid):
    grid = make_grid()
    around = grid.around(1)
    assert len(around) == len(set(around)) == 2 * (1 + 1 + 1 + 1) and {at.source for at in around} == {1}
    across = grid.across()
    assert [grid.class_name(at) for at in across] == [name for name in sorted(grid.classes) for _ in range(2)]
    assert len(grid.across(2)) == 4


def test_pictures_are_those_of_augment_one_at_a_time(make_grid, tiny_base):
    grid = make_grid()
    positions = [*grid.around(), *grid.across()]
    assert grid.precompute(positions) == len(set(positions))
    for position in (positions[-1], replace(grid.default(0, 201), region="none")):
        source = grid.sources.pictures[position.source : position.source + 1]
        request = Request(
            0, grid.prompt(position), position.timestep, position.guidance_scale, grid.picture_seed(position)
        )
        around, latents = as_seen(tiny_base, source), tiny_base.encode(source)
        alone = augment(tiny_base, grid.concepts, around, latents, [request], P.steps, grid.may_change(position))[0]
        assert (alone.int() - grid.pictures([position])[0].int()).abs().max() <= 1


def test_a_second_opening_makes_nothing_and_a_change_makes_what_it_concerns(make_grid, monkeypatch, tmp_path, prepared):
    first = make_grid()
    wanted = [*first.around(), *first.across()]
    first.precompute(wanted)
    written = (tmp_path / GRID_FILE).stat().st_mtime_ns
    again = make_grid()
    monkeypatch.setattr(module, "augment", lambda *_: pytest.fail("a picture was made again"))
    started = time.perf_counter()
    assert again.precompute(wanted) == 0
    assert time.perf_counter() - started < 0.5
    assert torch.equal(again.pictures(wanted), first.pictures(wanted))
    assert (tmp_path / GRID_FILE).stat().st_mtime_ns == written
    changed = prepared.pictures.clone()
    changed[again.sources.table.index[0]] += 1
    other_source = make_grid(shots=PreparedSet(prepared.table, prepared.pictures + 1, prepared.masks))
    other_steps = make_grid(p=P.model_copy(update={"steps": 5}))
    assert all(grid.picture(at) is None for grid in (other_source, other_steps) for at in wanted)


def test_a_killed_precomputation_keeps_its_timesteps(make_grid, monkeypatch):
    grid = make_grid()
    real = module.augment

    def die(*arguments):
        if arguments[4][0].timestep == 201:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "augment", die)
    with pytest.raises(KeyboardInterrupt):
        grid.precompute(grid.around())
    monkeypatch.setattr(module, "augment", real)
    assert make_grid().precompute(grid.around()) == len(grid.around()) // 2


def test_the_grid_is_bounded(make_grid, monkeypatch):
    grid = make_grid()
    monkeypatch.setattr(module, "LARGEST_GRID", 8)
    with pytest.raises(ThesisError, match="would have 9 pictures and holds at most 8"):
        grid.precompute([*grid.around(), grid.default(1, 1)])
    grid.precompute(grid.around())
    grid.precompute([grid.default(1, 1)])  # what was kept before gives way, only what was asked for now must stay
    opened = make_grid()
    assert opened.picture(grid.default(1, 1)) is not None and opened.picture(grid.default(0, 1)) is None


def test_a_missing_picture_is_named(make_grid):
    with pytest.raises(ThesisError, match="4 of 4 pictures are not made yet"):
        grid = make_grid()
        grid.pictures(grid.across(2))


def test_without_masks_everything_may_change(make_grid, prepared):
    everywhere = P.model_copy(update={kind: SetParameters(timesteps=[300], mask="none") for kind in ("id", "near_ood")})
    bare = PreparedSet(prepared.table, prepared.pictures, torch.zeros_like(prepared.masks))
    grid = make_grid(None, bare, everywhere)
    assert grid.axes.regions == ["none"] and grid.may_change(grid.default(0, 1)).all()
    with pytest.raises(ThesisError, match="have no source picture with a mask"):
        make_grid(None, bare)


def test_live_pictures_count_their_steps(make_grid):
    grid = make_grid()
    position = replace(grid.default(2, 501), variation=3)
    steps = []
    picture = grid.make(position, lambda: steps.append(1))
    assert len(steps) == grid.effective_steps(position) == 6
    assert grid.make(position, lambda: pytest.fail("made twice")) is picture is grid.picture(position)
    assert not grid.base.unet._forward_hooks
