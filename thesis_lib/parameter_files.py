"""Parameter files: one YAML file under `parameters/` is one experiment; overrides such as ``data.shots=4`` change it.

A file that says `study: NAME` at its top is a companion study and has parameters of its own. An override changes the
run's name, so that two settings never share a folder.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.parameters import PairwiseTripletParameters
from thesis_lib.parameters import Experiment, Parameters, Study, sentence
from thesis_lib.vae.parameters import VaeParameters

STUDIES: dict[str, type[Study]] = {"pairwise_triplet": PairwiseTripletParameters, "vae": VaeParameters}
"""The companion studies' parameters by the value of `study`."""


class _NamesOnce(yaml.SafeLoader):
    """YAML's safe loader, which refuses a name that stands twice: the second would silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        names = [key.value for key in keys if key.tag != "tag:yaml.org,2002:merge"]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_parameters(path: str | Path, overrides: str | Sequence[str] = ()) -> Experiment:
    """Read and check a parameter file.

    Args:
        path: The YAML file.
        overrides: ``key=value`` items such as ``data.shots=4``, values in YAML: a list, or one string with
            blanks between.

    Returns:
        The parameters, a `Parameters` or, where the file names a study, the study's own. With overrides, and none of
        them `name`, the name gains their digest.

    Raises:
        ThesisError: The file is missing or no YAML, a name is unknown, a value has a wrong type or range.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _NamesOnce)
    except OSError as error:
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "none"
        raise ThesisError(
            f"{path}: cannot read the parameter file ({error.strerror}); {path.parent} has: {there}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ThesisError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ThesisError(f"{path}: a parameter file is a mapping of names to values, this is {type(content).__name__}")
    items = overrides.split() if isinstance(overrides, str) else list(overrides)
    for item in items:
        _apply(content, item)
    if items and not any(item.startswith("name=") for item in items):
        slug = re.sub(r"[^A-Za-z0-9]+", "-", "_".join(item.rpartition(".")[2] for item in items)).strip("-")[:40]
        digest = hashlib.sha256("\n".join(sorted(items)).encode()).hexdigest()[:6]
        content["name"] = f"{content.get('name', path.stem)}_{slug}_{digest}"
    content.setdefault("name", path.stem)
    model: type[Experiment] | None = STUDIES.get(str(content["study"])) if "study" in content else Parameters
    if model is None:
        raise ThesisError(f"{path}: study {content['study']} is unknown; the studies are: {', '.join(STUDIES)}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(sentence(problem, model) for problem in error.errors())
        raise ThesisError(f"{path}: {problems}") from None


def _apply(content: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ThesisError(f"--set {item}: write key=value, for example data.shots=4")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ThesisError(f"--set {item}: {section} is a value, not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ThesisError(f"--set {item}: {value!r} is not a YAML value") from None


def dump_parameters(parameters: Experiment) -> str:
    """The parameters as YAML that `read_parameters` reads back."""
    return yaml.safe_dump(parameters.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
