import shutil
import subprocess

import pytest
import torch
from PIL import Image

from thesis_lib.diffusion.augmentation import as_seen
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.diffusion.generation import choose_sources, generate, work_list
from thesis_lib.diffusion.manifest import read_manifest, sets_of
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.sections import GenerationParameters, SetParameters

P = GenerationParameters(
    steps=5, sources=2, per_source=2, batch=5,
    id=SetParameters(timesteps=[400], guidance_scales=[2.0], prompts=["a photo of a {}", "a photo of a rusty {}"]),
    near_ood=SetParameters(strengths=[0.6, 0.8], guidance_scales=[1.0, 4.0], mask="background"),
)  # fmt: skip


def make(base, shots, folder, p=P, shard=(0, 1)):
    table, pictures, masks = shots
    concepts = Concepts(base, {}, list(table["class_name"].unique()))
    work = work_list(base, concepts, choose_sources(table, masks, p, 0), p, 0)
    return generate(base, concepts, work, pictures, masks, p, folder, shard)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_manifest_tells_everything_and_labels_come_from_it(tiny_base, shots, tmp_path):
    """Erratum 1: labels stand beside their picture in one row, nothing is joined by order."""
    made = make(tiny_base, shots, tmp_path)
    manifest, pictures = read_manifest(tmp_path)
    assert len(made) == len(manifest) == len(pictures) == 2 * 3 * 2 * 2
    assert manifest.groupby(["kind", "label"]).size().eq(4).all()
    table = shots[0].set_index("source_id")
    assert (manifest["label"].to_numpy() == table.loc[manifest["source_id"], "label"].to_numpy()).all()
    assert set(manifest.loc[manifest["kind"] == "near_ood", "timestep"]) == {401, 601}
    assert manifest["snr"].gt(0).all() and manifest["seed"].is_unique


def test_another_seed_draws_other_noise(tiny_base, shots):
    concepts = Concepts(tiny_base, {}, list(shots[0]["class_name"].unique()))
    first, second = (work_list(tiny_base, concepts, shots[0], P, seed) for seed in (0, 1))
    assert not set(first["seed"]) & set(second["seed"])
    assert first["snr"].tolist() == [tiny_base.signal_to_noise(t) for t in first["timestep"]]


def test_siblings_are_near_ood_by_the_words_of_other_things(tiny_base, shots, tmp_path):
    sibling = SetParameters(timesteps=[800], prompts=["a photo of a nut", "a photo of a spring"], mask="none")
    made = make(tiny_base, shots, tmp_path, P.model_copy(update={"sibling": sibling}))
    sets = sets_of(made)
    assert sets.value_counts().to_dict() == {"id": 12, "near_ood": 12, "sibling": 12}
    mine = made[sets == "sibling"]
    assert set(mine["kind"]) == {"near_ood"} and set(mine["prompt"]) == set(sibling.prompts)
    assert set(mine["concept"]) == {"none"} and "none" not in set(made.loc[sets != "sibling", "concept"])
    without = make(tiny_base, shots, tmp_path / "without")
    assert made[sets != "sibling"].reset_index(drop=True).equals(without)


def test_resume_makes_only_what_is_missing_broken_or_made_otherwise(tiny_base, shots, tmp_path):
    make(tiny_base, shots, tmp_path / "whole")
    make(tiny_base, shots, tmp_path / "cut")
    files = sorted((tmp_path / "cut").rglob("*.png"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    Image.new("RGB", (32, 32)).save(files[2])
    untouched = files[3].stat().st_mtime_ns
    make(tiny_base, shots, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert files[3].stat().st_mtime_ns == untouched
    other = P.model_copy(update={"near_ood": P.near_ood.model_copy(update={"guidance_scales": [7.0]})})
    make(tiny_base, shots, tmp_path / "cut", other)
    manifest, _ = read_manifest(tmp_path / "cut")
    assert set(manifest.loc[manifest["kind"] == "near_ood", "guidance_scale"]) == {7.0}
    assert files[3].stat().st_mtime_ns == untouched, "an ID picture must not be made again"


def test_shards_make_the_same_pictures(tiny_base, shots, tmp_path):
    make(tiny_base, shots, tmp_path / "whole")
    make(tiny_base, shots, tmp_path / "parts", shard=(0, 2))
    with pytest.raises(ThesisError, match="run notebook 04 first"):
        read_manifest(tmp_path / "parts")
    make(tiny_base, shots, tmp_path / "parts", shard=(1, 2))
    for name, pixels in contents(tmp_path / "whole").items():
        assert name in contents(tmp_path / "parts"), name
        assert len(pixels) > 0
    a, b = read_manifest(tmp_path / "whole"), read_manifest(tmp_path / "parts")
    assert a[0].equals(b[0]) and (a[1].int() - b[1].int()).abs().max() <= 1


def test_a_shard_does_not_take_anothers_older_pictures_for_its_own(tiny_base, shots, tmp_path):
    make(tiny_base, shots, tmp_path)
    (tmp_path / "manifest.parquet").unlink()
    other = P.model_copy(update={"near_ood": P.near_ood.model_copy(update={"guidance_scales": [7.0]})})
    make(tiny_base, shots, tmp_path, other, shard=(0, 2))
    assert not (tmp_path / "manifest.parquet").exists()
    make(tiny_base, shots, tmp_path, other, shard=(1, 2))
    manifest, _ = read_manifest(tmp_path)
    assert set(manifest.loc[manifest["kind"] == "near_ood", "guidance_scale"]) == {7.0}


def test_a_missing_or_broken_picture_is_named(tiny_base, shots, tmp_path):
    make(tiny_base, shots, tmp_path)
    broken = sorted(tmp_path.rglob("*.png"))[0]
    broken.write_bytes(b"no picture")
    with pytest.raises(ThesisError, match=broken.name):
        read_manifest(tmp_path)


def test_empty_masks_are_not_chosen_as_sources(shots):
    table, _, masks = shots
    some = masks.clone()
    some[0] = False
    with pytest.warns(ThesisWarning, match="there are fewer training pictures with a mask of: bolt 2;"):
        assert 0 not in choose_sources(table, some, P.model_copy(update={"sources": 3}), 0).index
    some[:3] = False
    with pytest.raises(ThesisError, match=r"\['bolt'\] have no source picture with a mask"):
        choose_sources(table, some, P, 0)


def test_zero_effective_steps_are_refused_before_anything_is_made(tiny_base, shots, tmp_path):
    weak = P.model_copy(update={"id": SetParameters(strengths=[0.05])})
    with pytest.raises(ThesisError, match="0 effective steps"):
        make(tiny_base, shots, tmp_path, weak)
    assert not list(tmp_path.rglob("*.png"))


def test_a_full_disk_keeps_what_was_made(tiny_base, shots, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        with pytest.raises(ThesisError, match="disk is full"):
            make(tiny_base, shots, folder)
        kept = contents(folder)
        assert kept and not list(folder.rglob(".*part*"))
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        make(tiny_base, shots, folder)
        make(tiny_base, shots, tmp_path / "whole")
        assert contents(folder).keys() == contents(tmp_path / "whole").keys()
        assert all(contents(folder)[name] == pixels for name, pixels in kept.items())
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    shutil.rmtree(folder)


def test_two_sets_differ_and_masks_limit_the_change(tiny_base, shots, tmp_path):
    table, pictures, masks = shots
    make(tiny_base, shots, tmp_path)
    manifest, made = read_manifest(tmp_path)
    rows = table.reset_index().set_index("source_id").loc[manifest["source_id"], "index"].to_numpy(copy=True)
    changed = (made.int() - as_seen(tiny_base, pictures)[rows].int()).abs().sum(1) > 0
    near = torch.tensor((manifest["kind"] == "near_ood").to_numpy())
    assert not (changed[near] & masks[rows][near]).any() and changed[~near].any()


def test_timesteps_that_are_tried_out_come_beside_the_sets_and_more_can_follow(tiny_base, shots, tmp_path):
    table, pictures, masks = shots
    background = SetParameters(timesteps=[800], prompts=["a photo of a {} on a bench"], mask="background")
    p = P.model_copy(update={"near_ood": SetParameters(timesteps="auto"), "background": background})
    concepts, sources = (
        Concepts(tiny_base, {}, list(table["class_name"].unique())),
        choose_sources(table, masks, p, 0),
    )
    first = work_list(tiny_base, concepts, sources, p, 0, {401: 1, 601: 1})
    more = work_list(tiny_base, concepts, sources, p, 0, {401: 1, 601: 3})
    assert first.groupby(["kind", "mask", "timestep"]).size().to_dict() == {
        ("id", "background", 601): 12, ("id", "object", 201): 12,
        ("near_ood", "object", 401): 6, ("near_ood", "object", 601): 6,
    }  # fmt: skip
    kept = more.set_index("path").loc[first["path"]].reset_index()
    assert kept.equals(first[kept.columns]) and len(more) == len(first) + 12
    generate(tiny_base, concepts, first, pictures, masks, p, tmp_path)
    before = contents(tmp_path)
    generate(tiny_base, concepts, more, pictures, masks, p, tmp_path)
    after = contents(tmp_path)
    assert len(after) == len(more) and before.items() <= after.items()
    assert work_list(tiny_base, concepts, sources, p, 0)["kind"].eq("id").all()


def test_bf16_is_written_down_and_hardly_differs(tiny_base, shots, tmp_path):
    make(tiny_base, shots, tmp_path / "plain")
    make(tiny_base, shots, tmp_path / "bf16", P.model_copy(update={"precision": "bf16"}))
    (first, plain), (second, fast) = read_manifest(tmp_path / "plain"), read_manifest(tmp_path / "bf16")
    assert set(first["precision"]) == {"model"} and set(second["precision"]) == {"bf16"}
    difference = (plain.float() - fast.float()).abs().mean()
    assert 0 < difference < 3
    assert tiny_base.autocast is None
