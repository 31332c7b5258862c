"""The report: one page that needs no other file, and what a run puts on it."""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from thesis_lib.errors import ThesisError
from thesis_lib.figures.captions import caption
from thesis_lib.figures.words import LANGUAGES, word
from thesis_lib.parameter_files import dump_parameters
from thesis_lib.parameters import Parameters
from thesis_lib.storage import read_json, write_text

AUDIT = "What proven defects of the published code do to the accuracies and to the differences of the arms."
LOOKS = (
    "Shares of the saliency inside the object, of the area, and of the arm's mean map inside it; shares of skill that "
    "survive shuffled 8 x 8 patches (texture) and objects of one colour (shape); lean is shape minus texture"
)
LOSSLESS_UP_TO = 150_000  # bytes; larger pictures, sheets of photographs, are stored with loss
CSS = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fdfdfc; --faint: #5c5c5c; --line: #d8d8d4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --paper: #17181a; --faint: #a5a5a0; --line: #3a3b3e; } }
body { margin: 0 auto; max-width: 50rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
nav a { color: inherit; margin-right: 1rem; white-space: nowrap; }
figure { margin: 1.5rem 0; } figure img { display: block; max-width: 100%; height: auto; margin: 0 auto;
  background: #fff; padding: .5rem; box-sizing: border-box; border-radius: 4px; }
figcaption { color: var(--faint); font-size: .875rem; text-align: left; padding: .4rem 0; }
.table, pre { overflow-x: auto; } pre { font-size: .8rem; line-height: 1.4; }
table { border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; border-top: 1.5px solid; border-bottom: 1.5px solid; min-width: 60%; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; vertical-align: bottom; }
td { white-space: nowrap; border-top: 1px solid var(--line); }
th:first-child, td:first-child, td.long { text-align: left; } td.long { white-space: normal; min-width: 11rem; }
"""


@dataclass
class Section:
    """A part of the report: text, then tables, then figures.

    Attributes:
        heading: The heading.
        text: Plain paragraphs with blank lines between.
        figures: (path of a PNG, alternative text, caption).
        tables: (table, caption); floats are written with three significant digits.
        settings: Parameters as YAML, folded away.
    """

    heading: str
    text: str = ""
    figures: Sequence[tuple[Path, str, str]] = field(default_factory=list)
    tables: Sequence[tuple[pd.DataFrame, str]] = field(default_factory=list)
    settings: str = ""


def write_report(folder: Path, title: str, sections: Sequence[Section], language: str = "en") -> Path:
    """Write report.html: pictures embedded, light and dark, readable on a phone, no script.

    Args:
        folder: Where it goes.
        title: The page's title.
        sections: The parts, in order. What the data lack is no figure; say so in the section's text.
        language: `en` or `de`, of figures, tables and captions; the page's own text is English.

    Returns:
        The path of the page.

    Raises:
        ThesisError: A picture is missing.
    """
    links = "".join(f'<a href="#s{i}">{html.escape(s.heading)}</a> ' for i, s in enumerate(sections))
    body = "\n".join(_section(f"s{index}", section, language) for index, section in enumerate(sections))
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title)}</title>\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )
    path = Path(folder) / "report.html"
    write_text(path, page)
    return path


def _section(name: str, section: Section, language: str) -> str:
    parts = [f'<h2 id="{name}">{html.escape(section.heading)}</h2>']
    parts += [f"<p>{html.escape(' '.join(text.split()))}</p>" for text in section.text.split("\n\n") if text.strip()]
    parts += [_table(table, said, language) for table, said in section.tables]
    for path, alt, said in section.figures:
        parts.append(
            f'<figure lang="{language}"><img src="{_embedded(path)}" alt="{html.escape(alt)}">'
            f"<figcaption>{html.escape(said)}</figcaption></figure>"
        )
    if section.settings:
        parts.append(f"<details><summary>All parameters</summary><pre>{html.escape(section.settings)}</pre></details>")
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table(table: pd.DataFrame, caption: str, language: str) -> str:
    with pd.option_context("display.max_colwidth", None):  # pandas cuts sentences at 50 characters
        cells = table.to_html(index=False, border=0, justify="unset", na_rep="–", float_format=lambda x: f"{x:.3g}")  # noqa: RUF001
    cells = re.sub(r"<td>([^<]{30,})</td>", r'<td class="long">\1</td>', cells)
    said = f"<figcaption>{html.escape(caption)}</figcaption>"  # a <caption> would scroll sideways with a wide table
    return f'<figure lang="{language}">{said}<div class="table">{cells}</div></figure>'


def _embedded(path: Path) -> str:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except OSError as error:
        raise ThesisError(f"{path}: the report cannot read this picture ({error}); draw the figure again") from None
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=4)
    if buffer.tell() > LOSSLESS_UP_TO:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=86, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def captioned_figures(run: Path, places: Sequence[str], language: str) -> list[tuple[Path, str, str]]:
    """Those of the figures at `places` that a run has, with their captions, as a `Section` takes them."""
    there = {place: path for place in places if (path := run / f"{place}.png").exists()}
    return [(path, text := caption(place, language), text) for place, path in there.items()]


def captioned_tables(
    tables: Mapping[str, pd.DataFrame], names: Sequence[str], language: str
) -> list[tuple[pd.DataFrame, str]]:
    """Those of the tables in `names` that are there and not empty, with their captions, as a `Section` takes them."""
    there = [name for name in names if name in tables and len(tables[name])]
    return [(tables[name], caption(f"tables/{name}", language)) for name in there]


def report_sections(
    run: Path,
    parameters: Parameters,
    arms: Sequence[str],
    tables: Mapping[str, pd.DataFrame],
    answers: Sequence[str],
) -> list[Section]:
    """The sections of report.html, in reading order: from answers to provenance.

    What is not there, a figure or the audit, is left out.

    Args:
        run: The run's folder.
        parameters: The experiment's.
        arms: The arms whose maps, confusion and ROC are shown.
        tables: Tables of text by their names in `captions.TABLES`.
        answers: Paragraphs, such as `say` and `seed_note` return.
    """
    seed, language = f"seed{parameters.seeds[0]}", parameters.language

    def figures(*places: str) -> list[tuple[Path, str, str]]:
        return captioned_figures(run, places, language)

    def named(*names: str) -> list[tuple[pd.DataFrame, str]]:
        return captioned_tables(tables, names, language)

    missing = (
        [] if (run / "data" / "ood.parquet").exists() else ["Absent: OOD detection, the data set has no OOD pictures."]
    )
    if not any(word("top1/field", each) in str(column) for each in LANGUAGES for column in tables["arms"]):
        missing.append("Absent: changed conditions, the data set has no field pictures.")
    audits = [
        (pd.read_csv(path), caption(f"audit/{name}", language))
        for name in ("audit", "differences")
        if (path := run / "audit" / f"{name}.csv").exists()
    ]
    validity = []
    if (run / seed / "synthetic" / "validity.json").exists():
        shares = pd.DataFrame(read_json(run / seed / "synthetic" / "validity.json", "")).T
        title = "Share of real pictures in the bands: a near-OOD band that is one holds near parts"
        validity.append((shares.rename_axis("pictures").reset_index(), title))
    looks = []
    if (run / seed / "analysis" / "saliency.csv").exists():
        found = pd.read_csv(run / seed / "analysis" / "saliency.csv")
        found = found[found["arm"].isin([*arms, "untrained"])]
        found = found[["arm", "split", "inside", "area", "centre", "texture", "shape", "lean"]]
        looks.append((found.assign(arm=found["arm"].map(word)), LOOKS))
    stamp = read_json(run / seed / "analysis" / "stage.json", "run notebook 06 first")
    commit = f"commit {stamp['commit']}{' with local changes' if stamp['dirty'] else ''}, " if stamp["commit"] else ""
    versions = pd.DataFrame(list(stamp["versions"].items()), columns=["package", "version"])
    sets = [f"{seed}/synthetic/sheet_{name}" for name in ("id", "background", "near_ood", "sibling")]
    views = [f"inspection/{name}" for name in ("timesteps", "guidance", "prompts", "regions")]
    confusions = [f"{seed}/analysis/confusion_{split}_{arm}" for arm in arms for split in ("test", "field")]
    return [
        Section(
            "Questions and answers",
            "\n\n".join([parameters.description, *answers, *missing]),
            tables=named("hypotheses"),
        ),
        Section(
            "Comparison",
            "One seed drives an arm from the choice of shots to the initial weights; arms are compared within seeds.",
            figures("figures/comparison", "figures/forest", "figures/surface", "figures/shots"),
            named("arms", "differences"),
        ),
        Section(
            "Data",
            "Left to right the splits; what is held out; the shots that seed 0 trains on.",
            figures("data/classes", "data/ood_near", "data/ood_far", "data/shots"),
        ),
        Section(
            "Synthetic pictures",
            "Left the source, then pictures made from it.",
            figures(f"{seed}/concepts/previews", *sets, f"{seed}/synthetic/hardness", *views),
            validity,
        ),
        Section(
            "Training",
            "Loss relative to the value of a network that maps everything to one point.",
            figures(f"{seed}/analysis/training"),
        ),
        Section(
            "Representations",
            "t-SNE and UMAP of test and OOD pictures, first seed. Both keep neighbourhoods; distances between groups "
            "mean little.",
            figures(*(f"{seed}/analysis/embedding_{arm}" for arm in arms)),
        ),
        Section(
            "Confusion and OOD scores",
            "First seed.",
            figures(*confusions, *(f"{seed}/analysis/roc_near_{arm}" for arm in arms)),
        ),
        Section(
            "Texture or shape",
            "First seed. Accuracy when patches change places, which leaves texture, and when objects are filled with "
            "one colour, which leaves shape.",
            figures(*(f"{seed}/analysis/{name}" for name in ("saliency_maps", "patch_pictures", "patch_test"))),
            looks,
        ),
        *([Section("Reproduction audit", AUDIT, figures("audit/shifts"), audits)] if audits else []),
        Section(
            "Provenance",
            f"First seed's analysis: {commit}Python {stamp['python']}, {stamp['date']}.",
            tables=[(versions, "Packages")],
            settings=dump_parameters(parameters),
        ),
    ]
