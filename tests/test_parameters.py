import pytest

from thesis_lib.errors import ThesisError
from thesis_lib.parameter_files import dump_parameters, read_parameters
from thesis_lib.parameters import Arm

VARIANTS = """
name: toy
seeds: [3, 4, 5]
arms: [real, real_id_nearood, one_each]
explore: [filler, own_class]
explore_seeds: 1
variants:
  one_each: {arm: real_id_nearood, set: {training.near_ood_per_class: 1}}
  own_class: {arm: real_id_nearood, set: {training.negatives: own_class, hardness.near_p: 0.1}}
training: {negatives: all_classes}
"""


def read(tmp_path, text=VARIANTS, *overrides):
    (tmp_path / "toy.yaml").write_text(text)
    return read_parameters(tmp_path / "toy.yaml", overrides)


def test_a_variant_is_an_arm_with_other_settings(tmp_path):
    parameters = read(tmp_path)
    arm, own = parameters.of_arm("own_class")
    assert arm is Arm.REAL_ID_NEAROOD
    assert (own.training.negatives, own.hardness.near_p) == ("own_class", 0.1)
    assert own.training.model_copy(update={"negatives": "all_classes"}) == parameters.training
    assert parameters.of_arm("filler") == (Arm.FILLER, parameters)
    assert read(tmp_path, dump_parameters(parameters)) == parameters


def test_exploratory_arms_run_with_the_first_seeds_only(tmp_path):
    parameters = read(tmp_path)
    assert parameters.seeds_of("one_each") == [3, 4, 5] and parameters.seeds_of("own_class") == [3]
    assert parameters.drawn_with(3) == parameters.arms and parameters.drawn_with(4) == []
    assert parameters.drawn_with(3, ["own_class", parameters.arms[0]]) == [*parameters.arms, "own_class"]
    with pytest.raises(ThesisError, match="draw: own_class does not run with seed 4; there are: "):
        parameters.drawn_with(4, ["own_class"])
    assert parameters.arms_of(3) == ["real", "real_id_nearood", "one_each", "filler", "own_class"]
    assert parameters.arms_of(4) == ["real", "real_id_nearood", "one_each"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("arms: [real, tilted]", "tilted is neither an arm"),
        ("explore: [real]", "arms and explore names one value twice"),
        ("variants: {filler: {arm: real, set: {}}}", "'filler'] are names of arms"),
        ("variants: {own_class: {arm: real, set: {data.shots: 4}}, one_each: {arm: real, set: {}}}", "not data.shots"),
        ("variants: {own_class: {arm: real, set: {training.tilt: -1}}, one_each: {arm: real, set: {}}}",
         "variants.own_class: training.tilt: input should be greater than or equal to 0"),
        ("generation: {id: {timesteps: auto}}", "timesteps auto is for near_ood"),
        ("generation: {sibling: {timesteps: [5], prompts: ['a {} nut']}}", "words of another thing and no {}: ['a {}"),
        ("training: {near_ood_set: sibling}", "generation.sibling is absent: add that set"),
        ("generation: {background: {timesteps: [5], colour: red}}", "unknown parameter generation.background.colour"),
        ("variants: {own_class: {arm: real, set: {}, a: 1}, one_each: {arm: real, set: {}}}", "variants.own_class.a"),
        ("variants: {own_class: {arm: real, set: {hardness.neighbours: 1}}, one_each: {arm: real, set: {}}}",
         "not hardness.neighbours"),
        ("variants: {analysis: {arm: real, set: {}}}", "names of arms or of folders"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, line, sentence):
    kept = [text for text in VARIANTS.splitlines() if text.partition(":")[0] != line.partition(":")[0]]
    if line.startswith("variants"):
        kept = [text for text in kept if not text.startswith("  ")]
    with pytest.raises(ThesisError, match=r"toy\.yaml") as caught:
        read(tmp_path, "\n".join([*kept, line]))
    assert sentence in str(caught.value)


def test_a_name_that_stands_twice_or_letters_of_another_code_are_said(tmp_path):
    with pytest.raises(ThesisError, match=r"toy\.yaml: not valid YAML: shots stands twice"):
        read(tmp_path, VARIANTS + "\ndata: {shots: 3, shots: 4}")
    file = tmp_path / "latin.yaml"
    file.write_bytes("name: größe".encode("latin-1"))
    with pytest.raises(ThesisError, match=r"latin\.yaml: not valid YAML"):
        read_parameters(file)


def test_scores_are_needed_only_where_pictures_are_chosen_by_them(tmp_path):
    assert not read(tmp_path).needs_hardness
    assert read(tmp_path, VARIANTS, "training.near_ood_choice=hardness").needs_hardness
    automatic = read(tmp_path, VARIANTS, "generation.near_ood={timesteps: auto}")
    assert automatic.needs_hardness
    assert automatic.generation_tried.near_ood.timesteps == automatic.hardness.candidates


@pytest.mark.parametrize("bad", ["name=../elsewhere", "name=.hidden", "description=!!python/object/apply:os.getcwd []"])
def test_no_name_leaves_the_runs_and_no_yaml_runs_code(tmp_path, bad):
    with pytest.raises(ThesisError):
        read(tmp_path, VARIANTS, bad)
