import numpy as np
import pandas as pd
import pytest
import torch

from thesis_lib.contrastive.encoders import Encoder, load_encoder, save_network
from thesis_lib.datasets import PreparedSet
from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.diffusion.generation import choose_sources, generate, work_list
from thesis_lib.diffusion.hardness import (
    Hardness,
    band_shares,
    load_hardness_encoder,
    on_grey,
    score_manifest,
    second_opinion,
    timesteps_tried,
    train_hardness_encoder,
)
from thesis_lib.diffusion.manifest import accepted_shares, bands, best_timestep, misfit, read_manifest, sets_of
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.sections import (
    EncoderParameters,
    GenerationParameters,
    HardnessParameters,
    ModelParameters,
    SetParameters,
)

BANDS = HardnessParameters()


def prepared(labels, groups, shade):
    """Grey-scale squares whose brightness is the class, one of the channels marking the picture."""
    pictures = torch.zeros(len(labels), 3, 16, 16, dtype=torch.uint8)
    for row, label in enumerate(labels):
        pictures[row, label] = 200
        pictures[row] += torch.randint(0, shade, (3, 16, 16), generator=torch.Generator().manual_seed(row)).to(
            torch.uint8
        )
    table = pd.DataFrame({"label": labels, "capture_group": groups})
    return PreparedSet(table, pictures, torch.ones(len(labels), 16, 16, dtype=torch.bool))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(EncoderParameters(width=8, size=16), torch.full((3,), 0.3), torch.full((3,), 0.3)).eval()


@pytest.fixture(scope="module")
def space(encoder):
    shots = prepared([0, 0, 0, 0, 1, 1, 1, 1], ["a", "b", "c", "d", "e", "f", "g", "h"], 30)
    return Hardness(encoder, shots, prepared([0] * 10 + [1] * 10, [""] * 20, 50), 2)


def test_objects_stand_on_grey_and_a_picture_without_a_mask_stays():
    pictures = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 1:3, 1:3] = True
    cut = on_grey(pictures, masks)
    assert cut[0, 0, 1, 1] == 9 and cut[0, 0, 0, 0] == 128 and (cut[1] == 9).all()


def test_distance_is_the_mean_to_the_nearest_of_other_groups_over_the_class_median(space):
    valid = prepared([0] * 10 + [1] * 10, [""] * 20, 50)
    features = space.features(valid.pictures, valid.masks)
    distances = space.distances(features)
    by_hand = np.empty_like(distances)
    for c in (0, 1):
        cosine = 1 - features @ space.bank[space.shot_labels == c].T
        by_hand[:, c] = cosine.sort(1).values[:, :2].mean(1)
    by_hand /= [np.median(by_hand[:10, 0]), np.median(by_hand[10:, 1])]
    assert np.allclose(distances, by_hand, rtol=1e-4)
    # without its own capture group, a training picture is not at distance 0 of itself
    itself = space.distances(space.bank[:1], np.array(["a"]))[0, 0]
    assert itself > space.distances(space.bank[:1])[0, 0]
    with pytest.raises(ThesisError, match="one capture group"):
        space.groups, kept = np.array(["a"] * 8), space.groups
        try:
            space.distances(space.bank[:1], np.array(["a"]))
        finally:
            space.groups = kept


def test_p_values_are_conformal(space):
    d = space.calibration
    by_hand = [(1 + (d >= x).sum()) / (len(d) + 1) for x in (0.0, d[3], d[-1], 100.0)]
    assert np.allclose(space.p_values(np.array([0.0, d[3], d[-1], 100.0])), by_hand)


def test_percentile_and_confidence_by_hand(space):
    valid = prepared([0] * 10 + [1] * 10, [""] * 20, 50)
    features = space.features(valid.pictures, valid.masks)
    distances, found = space.distances(features), space.measure(features, np.zeros(20, int))
    others = distances[10:, 0]
    assert np.allclose(found["percentile"], [100 * (others < d).mean() for d in distances[:, 0]])
    weights = np.exp(-distances * space.scale / 0.05)
    assert np.allclose(found["confidence"], weights[:, 0] / weights.sum(1), atol=1e-5)
    assert found["confidence"][:10].min() > found["confidence"][10:].max()


def test_bands_by_hand():
    rows = pd.DataFrame(
        {
            "p_own": [0.5, 0.5, 0.1, 0.1, 0.1, 0.1],
            "p_max": [0.5, 0.9, 0.1, 0.1, 0.5, 0.2],
            "nearest": [0, 1, 0, 0, 1, 1],
            "percentile": [0, 0, 24, 26, 0, 0],
        }
    )
    # of its class; nearer to another; outside but near; outside and far; enters another class; on the border
    assert bands(rows, np.zeros(6, int), BANDS).tolist() == ["id", "", "near_ood", "", "", "near_ood"]


def test_a_picture_in_another_classs_band_is_never_near_ood(space):
    other = prepared([1] * 5, [""] * 5, 20)
    scores = space.measure(space.features(other.pictures, other.masks), np.zeros(5, int))
    assert (scores["nearest"] == 1).all() and "near_ood" not in bands(scores, np.zeros(5, int), BANDS)


def test_shares_of_real_pictures_in_the_bands(space):
    valid, far = prepared([0] * 6 + [1] * 6, [""] * 12, 50), prepared([2] * 4, [""] * 4, 50)
    ood = PreparedSet(
        far.table.assign(set=["near", "near", "near", "far"], split=["valid", "valid", "test", "test"]),
        far.pictures, far.masks,
    )  # fmt: skip
    shares = band_shares(space, valid, ood, BANDS)
    assert set(shares) == {"validation", "near"}  # the far picture may not tune anything
    assert all(sum(each.values()) == pytest.approx(1) for each in shares.values())
    assert shares["validation"]["id"] > 0.7 and shares["near"]["id"] == 0  # of a third colour
    assert set(band_shares(space, valid, None, BANDS)) == {"validation"}


def scored(shares):
    """Ten near-OOD pictures a class and timestep, of which a share is accepted."""
    rows = [
        dict(path="near_ood/x.png", label=label, timestep=t, p_own=0.1, p_max=0.1 if i < 10 * share else 0.9, nearest=9,
             percentile=1)
        for t, by_class in shares.items() for label, share in enumerate(by_class) for i in range(10)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_timestep_with_the_largest_share_over_classes_is_chosen():
    manifest = scored({501: (0.1, 0.1), 651: (0.3, 0.1), 801: (0.2, 0.2), 951: (0.0, 0.3)})
    assert accepted_shares(manifest, BANDS)["near_ood"].round(2).tolist() == [0.1, 0.2, 0.2, 0.15]
    assert best_timestep(manifest, BANDS) == 651  # the smaller of two alike
    with pytest.warns(ThesisWarning, match="801 is the latest timestep tried"):
        assert best_timestep(scored({501: (0.1, 0.1), 801: (0.2, 0.2)}), BANDS) == 801
    with pytest.raises(
        ThesisError, match=r"timesteps \[501\] lies in the near-OOD band: try other hardness.candidates"
    ):
        best_timestep(scored({501: (0.0, 0.0)}), BANDS)


def test_more_pictures_are_made_at_the_chosen_timestep():
    base = load_base_model(ModelParameters())
    p = GenerationParameters(steps=20, per_source=4)
    tried = timesteps_tried(base, p, BANDS)
    assert tried == {501: 1, 651: 1, 801: 1}
    assert timesteps_tried(base, p, BANDS, 651) == {501: 1, 651: 4, 801: 1}
    assert load_hardness_encoder(base, BANDS).num_features == 256


def test_genuineness_tells_real_from_bad(space):
    generator = torch.Generator().manual_seed(0)
    real, bad = (torch.randn(30, 4, generator=generator) + shift for shift in (1.5, -1.5))
    surer = space.genuineness(torch.cat([real[:5], bad[:5]]), real, bad)
    assert surer[:5].min() > surer[5:].max()


def test_an_encoder_file_says_how_it_is_built(encoder, tmp_path):
    save_network(tmp_path, encoder=encoder)
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(load_encoder(tmp_path / "encoder.safetensors")(x), encoder(x), atol=1e-6)
    save_network(tmp_path, head=encoder.backbone)
    with pytest.raises(ThesisError, match="is no encoder of this project"):
        load_encoder(tmp_path / "head.safetensors")


def test_validation_pictures_of_every_class_are_needed(encoder):
    shots = prepared([0, 0, 1, 1], ["a", "b", "c", "d"], 30)
    with pytest.raises(ThesisError, match=r"labels \[1\] have none"):
        Hardness(encoder, shots, prepared([0, 0], ["", ""], 30), 2)


def test_training_an_encoder_leaves_it_beside_the_model(tmp_path):
    pictures = prepared([0, 1, 2] * 8, [""] * 24, 60).pictures
    history = train_hardness_encoder(pictures, pd.Series(["a", "b", "c"] * 8), 2, 0, tmp_path / "model")
    assert len(history) == 2
    assert load_encoder(tmp_path / "model" / "hardness_encoder.safetensors").num_features == 256


def test_the_manifest_gets_the_scores_and_scoring_again_changes_nothing(tiny_base, shots, tmp_path):
    table, pictures, masks = shots
    table = table.assign(capture_group=table["source_id"])
    sibling = SetParameters(timesteps=[801], prompts=["a photo of a nut"], mask="none")
    near_ood = SetParameters(timesteps="auto")
    p = GenerationParameters(steps=5, sources=3, per_source=2, near_ood=near_ood, sibling=sibling)
    limits = HardnessParameters(id_p=1, near_p=1, near_percentile=100, neighbours=1)
    concepts = Concepts(tiny_base, {}, list(table["class_name"].unique()))
    work = work_list(tiny_base, concepts, choose_sources(table, masks, p, 0), p, 0, {401: 1, 801: 2})
    generate(tiny_base, concepts, work, pictures, masks, p, tmp_path)
    torch.manual_seed(0)
    encoder = Encoder(EncoderParameters(width=8, size=32), torch.zeros(3), torch.ones(3)).eval()
    prepared_shots = PreparedSet(table, pictures, masks)
    space = Hardness(encoder, prepared_shots, prepared_shots, 1)
    space.calibration += 0.1  # the toy's validation pictures are its shots, at distance 0
    space.scale[:] = 1
    best = best_timestep(score_manifest(space, tmp_path, prepared_shots, limits), limits)
    scored = score_manifest(space, tmp_path, prepared_shots, limits, best)
    again = score_manifest(space, tmp_path, prepared_shots, limits, best)
    assert scored.equals(again) and scored.equals(read_manifest(tmp_path)[0])
    sets = sets_of(scored)
    near, siblings = sets == "near_ood", sets == "sibling"
    assert not scored.loc[~near, "timestep_chosen"].any()
    assert scored.loc[~near & ~siblings, "accepted_share"].isna().all()
    assert set(scored.loc[siblings, "accepted_share"]) == set(accepted_shares(scored, limits, "sibling")["near_ood"])
    share = accepted_shares(scored, limits)["near_ood"]
    assert (scored.loc[near, "accepted_share"] == scored.loc[near, "timestep"].map(share)).all()
    assert set(scored.loc[scored["timestep_chosen"], "timestep"]) == {best}
    rows = scored[near]
    fits = misfit(rows, rows["label"].to_numpy(), limits) < 1
    assert ((rows["band"] == "near_ood") == fits).all()
    looser = misfit(rows.assign(band="id"), rows["label"].to_numpy(), limits)
    assert looser.equals(misfit(rows, rows["label"].to_numpy(), limits))  # the limits decide, not the stored band
    assert scored["generative"].between(0, 1).all()
    valid = PreparedSet(table, pictures.flip(-1), masks)
    score_manifest(Hardness(encoder, prepared_shots, valid, 1), tmp_path, prepared_shots, limits, best)
    opinion = second_opinion(encoder, tmp_path, prepared_shots, valid, limits)  # of the same encoder
    assert opinion["spearman"] == pytest.approx(1) and opinion["accepted_by_one"] == 0
