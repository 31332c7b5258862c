import numpy as np
import pandas as pd
import pytest
import torch

from thesis_lib.contrastive.arms import build_pools, choose_id, choose_near_ood
from thesis_lib.datasets import PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import Kind

QUOTA = 6


def settings(**training):
    return Parameters.model_validate({"name": "toy", "training": training, "hardness": {"quota": QUOTA}})


@pytest.fixture
def manifest():
    """Two classes; of each eight ID pictures, half of them backgrounds, and ten near-OOD ones at two timesteps."""
    rows = []
    for label in (0, 1):
        for i in range(8):
            rows.append(
                dict(
                    kind="id",
                    label=label,
                    mask=("object", "background")[i % 2],
                    timestep=201,
                    p_own=0.1 * i,
                    nearest=label,
                    p_max=0.9,
                    percentile=5.0,
                    confidence=i,
                    generative=-i,
                )
            )
        for i in range(10):
            unclaimed = i in (0, 1, 2, 9) if label == 0 else i < 8
            rows.append(
                dict(
                    kind="near_ood",
                    label=label,
                    mask="object",
                    source_id=f"{label}/{i % 4}",
                    timestep=(651, 801)[i >= 6],
                    p_own=0.01,
                    nearest=label,
                    p_max=0.1 if unclaimed else 0.5,
                    percentile=5.0 * i,
                    confidence=0,
                    generative=0,
                )
            )
    table = pd.DataFrame(rows)
    table["path"] = table["kind"] + "/x.png"
    table["d_own"] = 1.0
    table["timestep_chosen"] = (table["kind"] == "near_ood") & (table["timestep"] == 651)
    return table


def test_id_pictures_are_chosen_by_mask_band_or_the_surer_half(manifest):
    def chosen(choice):
        return manifest.iloc[choose_id(manifest, settings(id_choice=choice), 0)]

    assert len(chosen("all")) == 16
    assert set(chosen("background")["mask"]) == {"background"} and len(chosen("object")) == 8
    assert (chosen("band")["p_own"] >= 0.2).all() and len(chosen("band")) == 12
    surest = {choice: chosen(choice) for choice in ("confidence", "generative", "half")}
    objects = {choice: table[table["mask"] == "object"] for choice, table in surest.items()}
    assert sorted(objects["confidence"]["confidence"]) == [4, 4, 6, 6]
    assert sorted(objects["generative"]["generative"]) == [-2, -2, 0, 0]
    backgrounds = [table[table["mask"] == "background"].index.tolist() for table in surest.values()]
    assert backgrounds[0] == backgrounds[1] == backgrounds[2]  # all have their source's object: by chance
    for table in surest.values():
        assert table.groupby(["label", "mask"]).size().tolist() == [2, 2, 2, 2]
    halves = {tuple(choose_id(manifest, settings(id_choice="half"), seed)) for seed in range(5)}
    assert len(halves) > 1


def test_random_acceptance_takes_as_many_of_each_class_and_timestep(manifest):
    accepted = manifest.iloc[choose_near_ood(manifest, settings(near_ood_choice="hardness"), 0)]
    random = manifest.iloc[choose_near_ood(manifest, settings(near_ood_choice="random"), 0)]
    assert accepted.groupby("label").size().tolist() == [4, QUOTA]  # no more than are unclaimed
    assert (accepted["p_max"] <= 0.2).all()  # a picture that a class claims must never be a negative
    assert accepted.loc[accepted["label"] == 1, "percentile"].max() == 25  # of eight the six nearest to their class
    columns = ["label", "timestep"]
    assert accepted.groupby(columns).size().to_dict() == random.groupby(columns).size().to_dict()
    others = [tuple(choose_near_ood(manifest, settings(near_ood_choice="random"), seed)) for seed in range(5)]
    assert len(set(others)) > 1
    assert len(choose_near_ood(manifest, settings(near_ood_choice=801), 0)) == 8  # one a source
    assert len(choose_near_ood(manifest, settings(near_ood_choice="all"), 0)) == 20


def test_each_near_ood_set_is_chosen_from_alone(manifest):
    both = manifest.copy()
    siblings = both.index[both["kind"] == "near_ood"][::2]
    both.loc[siblings, "path"] = "sibling/x.png"
    for choice in ("all", "hardness", "random", 651):
        there = both.iloc[choose_near_ood(both, settings(near_ood_choice=choice), 0)]
        assert set(there["path"]) == {"near_ood/x.png"}
    whole = settings().model_dump() | {"generation": {"sibling": {"timesteps": [651], "prompts": ["a nut"]}}}
    whole["training"] |= {"near_ood_set": "sibling", "near_ood_choice": "all"}
    assert choose_near_ood(both, Parameters.model_validate(whole), 0).tolist() == siblings.tolist()


def test_choosing_needs_scores(manifest):
    for training in ({"near_ood_choice": "hardness"}, {"id_choice": "confidence"}):
        with pytest.raises(
            ThesisError, match="no hardness scores, because the parameters of their run choose nothing by"
        ):
            choose = choose_id if "id_choice" in training else choose_near_ood
            choose(manifest.drop(columns="d_own"), settings(**training), 0)


def test_oracle_arms_read_the_data_set_and_need_it(tmp_path):
    def prepared(kinds, value):
        table = pd.DataFrame(
            {
                "label": [0, 1] * len(kinds),
                "kind": np.repeat(kinds, 2),
                "source_id": range(2 * len(kinds)),
                "class_name": ["a", "b"] * len(kinds),
            }
        )
        pictures = torch.full((len(table), 3, 8, 8), value, dtype=torch.uint8)
        return PreparedSet(table, pictures, torch.ones(len(table), 8, 8, dtype=torch.bool))

    shots, oracle = prepared(["real"], 1), prepared(["id", "near_ood"], 2)
    pools = build_pools(Arm.ORACLE_NEAROOD, settings(), 0, shots, tmp_path, oracle)
    assert {kind: len(pool.labels) for kind, pool in pools.items()} == dict.fromkeys(Kind, 2)
    assert list(build_pools(Arm.REAL_STRONG, settings(), 0, shots, tmp_path, None)) == [Kind.REAL]
    with pytest.raises(ThesisError, match="no oracle pictures: take oracle_id out"):
        build_pools(Arm.ORACLE_ID, settings(), 0, shots, tmp_path, None)
