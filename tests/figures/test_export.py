import ast
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import torch
from PIL import Image

from thesis_lib.errors import ThesisError
from thesis_lib.figures.captions import FIGURES, TABLES, caption, find
from thesis_lib.figures.confusion import confusion_matrix
from thesis_lib.figures.export import export
from thesis_lib.figures.galleries import contact_sheet
from thesis_lib.figures.style import keep_figure
from thesis_lib.figures.tables import keep_table

ROOT = Path(__file__).resolve().parents[2]


def text(language: str) -> pd.DataFrame:
    return pd.DataFrame({"arm": ["real & <ID>, β"], "50 %": ["1,5" if language == "de" else "1.5"]})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    pictures = torch.full((4, 3, 8, 8), 90, dtype=torch.uint8)
    for place in ("data/shots", "seed0/real/batch", "seed0/real_id/batch", "seed1/real/batch", "seed0/concepts/loss"):
        keep_figure(folder / place, "en", contact_sheet, pictures, 2, column_labels=["source", "field"])
    keep_figure(folder / "seed0/analysis/confusion_test_real", "en", confusion_matrix, [[3, 1], [0, 4]], ["a_1", "b"])
    keep_table(folder / "tables/arms", "en", text)
    return folder


def names(files: list[Path], out: Path) -> set[str]:
    return {file.relative_to(out).as_posix() for file in files}


def test_a_seed_and_arms_of_ones_own_are_exported(run, tmp_path):
    out = tmp_path / "out"
    files = export(run, out, "en", "en", ["real"], 0)
    kept = ["data-shots", "seed0-concepts-loss", "seed0-real-batch", "seed0-analysis-confusion_test_real"]
    pictures = {f"figures/{name}.{ending}" for name in kept for ending in ("pdf", "png")}
    assert names(files, out) == pictures | {
        "tables/tables-arms.tex",
        "tables/tables-arms.csv",
        "floats.tex",
        "figures.tex",
    }
    assert all(file.is_file() for file in files)
    floats = (out / "floats.tex").read_text()
    assert (
        re.findall(r"\\label{fig:run-(.*)}", floats) == kept and r"Confusion matrix of the arm real on test" in floats
    )


def test_the_other_language_has_its_own_drawings_words_and_numbers(run, tmp_path):
    export(run, tmp_path / "de", "de", "en", ["real"], 0)
    export(run, tmp_path / "en", "en", "en", ["real"], 0)
    table = (tmp_path / "de/tables/tables-arms.tex").read_text()
    assert r"\label{tab:run-tables-arms}" in table
    assert (
        "1,5" in table and "Mittel über Startwerte" in table and "ngerman" in (tmp_path / "de/figures.tex").read_text()
    )
    assert "Konfusionsmatrix" in (tmp_path / "de/floats.tex").read_text()
    for name in ("figures/data-shots.png", "figures/seed0-analysis-confusion_test_real.pdf"):
        assert (tmp_path / "de" / name).read_bytes() != (tmp_path / "en" / name).read_bytes()
    with Image.open(tmp_path / "de/figures/data-shots.png") as german, Image.open(run / "data/shots.de.png") as kept:
        assert german.size == kept.size


def test_what_is_missing_is_said(run, tmp_path):
    with pytest.raises(ThesisError, match="has no figures"):
        export(tmp_path, tmp_path / "out", "en", "en", ["real"], 0)
    (run / "data/shots.de.pdf").unlink()
    with pytest.raises(ThesisError, match=r"shots\.de\.pdf is missing: run its notebook again"):
        export(run, tmp_path / "out", "de", "en", ["real"], 0)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex: figures.tex is not compiled")
@pytest.mark.parametrize("language", ["en", "de"])
def test_the_document_compiles_with_its_fonts(run, tmp_path, language):
    out = tmp_path / "out"
    export(run, out, language, "en", ["real", "real_id"], 0)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "figures.tex"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    if shutil.which("pdffonts"):
        listed = subprocess.run(["pdffonts", out / "figures.pdf"], capture_output=True, text=True, check=True).stdout
        rows = listed.splitlines()[2:]
        embedded = [row.split()[-5] for row in rows]
        assert rows and set(embedded) == {"yes"}, listed


def test_captions_are_found_by_place_and_every_language_fills_the_same_braces():
    assert caption("seed3/analysis/confusion_field_real_id", "de") == (
        "Konfusionsmatrix des Versuchsarms real + ID, Feld (Startwert 3)."
    )
    assert "seed 10" in caption("seed10/concepts/loss") and "Textual" in caption("seed10/concepts/loss")
    with pytest.raises(KeyError, match="no caption"):
        caption("data/unheard_of")
    for each in (*FIGURES, *TABLES):
        braces = [sorted(set(re.findall(r"{(\w+)}", words))) for words in (each.place, *each.texts)]
        assert braces[1] == braces[2] == braces[0], each.place


def test_a_figure_in_another_language_is_not_taken_for_one_of_its_own(run):
    assert [place for place, _ in find(run, FIGURES, "png")].count("data/shots") == 1
    assert not any("." in place for place, _ in find(run, FIGURES, "png"))


def test_every_figure_and_table_of_the_notebooks_has_a_caption():
    """The places where notebooks keep figures, with their variables as braces, are those of the captions."""
    places = set()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(notebook, 4).cells:
            if cell.cell_type == "code":
                code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
                places |= {(notebook.name[:2], place) for place in _kept(ast.parse(code))}
    captioned = {(each.notebook, re.sub(r"{\w+}", "{}", each.place.rpartition("/")[2])) for each in (*FIGURES, *TABLES)}
    assert places == captioned


def _kept(tree: ast.AST) -> list[str]:
    """Last parts of the paths given to `keep_figure` and `keep_table`, f-strings' fields as empty braces."""
    strings = {
        node.targets[0].id: node.value for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.BinOp)
    }  # fmt: skip
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("keep_figure", "keep_table"):
            path = node.args[0]
            last = strings[path.id].right if isinstance(path, ast.Name) else path.right
            parts = last.values if isinstance(last, ast.JoinedStr) else [last]
            found.append("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts))
    return found
