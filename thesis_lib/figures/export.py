"""A run's figures and tables for a thesis in one language, with a LaTeX file that includes them all."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from thesis_lib.errors import ThesisError
from thesis_lib.figures.captions import FIGURES, TABLES, caption, find
from thesis_lib.figures.style import in_language
from thesis_lib.figures.tables import escaped
from thesis_lib.storage import atomic, write_text

DOCUMENT = r"""% Made by `thesis figures`. A thesis with these packages and import has them by \import{FOLDER/}{floats}
\documentclass{article}
\usepackage[a4paper,textwidth=15cm,textheight=25cm]{geometry}
\usepackage{booktabs,graphicx,tabularx}
\IfFileExists{LANGUAGE.ldf}{\usepackage[LANGUAGE]{babel}}{}
\extrafloats{200}
\begin{document}
\input{floats}
\end{document}
"""
BABEL = {"en": "english", "de": "ngerman"}


def export(run: Path, out: Path, language: str, own: str, arms: Sequence[str], seed: int | None) -> list[Path]:
    """Copy a run's figures (PDF, PNG) and tables (LaTeX, CSV) and write `floats.tex` and `figures.tex`.

    Labels begin with the run's name, so that several runs' floats can stand in one document.

    Args:
        run: The run's folder.
        out: Where they go.
        language: `en` or `de`.
        own: The run's own language.
        arms: The arms whose own figures are wanted.
        seed: The seed whose own figures are wanted.

    Returns:
        The files written.

    Raises:
        ThesisError: The run has no figure, or lacks one in the language.
    """
    wanted = [(place, notebook) for place, notebook in find(run, FIGURES, "png") if _is_of(place, arms, seed)]
    if not wanted:
        raise ThesisError(f"{run} has no figures: run an experiment first (thesis run parameters/quickstart.yaml)")
    floats, written = [], []
    for place, notebook in wanted:
        name = place.replace("/", "-")
        written += _copy(run / place, out / "figures" / name, language, own, ("pdf", "png"))
        floats.append(
            f"% notebook {notebook}\n\\begin{{figure}}\n\\centering\n\\includegraphics{{figures/{name}.pdf}}\n"
            f"\\caption{{{escaped(caption(place, language))}}}\n\\label{{fig:{run.name}-{name}}}\n\\end{{figure}}\n"
        )
    for place, notebook in find(run, TABLES, "tex"):
        name = place.replace("/", "-")
        written += _copy(run / place, out / "tables" / name, language, own, ("tex", "csv"))
        text = written[-2].read_text(encoding="utf-8")
        write_text(written[-2], text.replace(r"\label{tab:", rf"\label{{tab:{run.name}-"))
        floats.append(f"% notebook {notebook}\n\\input{{tables/{name}}}\n")
    for name, text in (("floats", "\n".join(floats)), ("figures", DOCUMENT.replace("LANGUAGE", BABEL[language]))):
        write_text(out / f"{name}.tex", text)
        written.append(out / f"{name}.tex")
    return written


def _is_of(place: str, arms: Sequence[str], seed: int | None) -> bool:
    """Whether a figure is of the run as a whole, or of the wanted seed and arms."""
    for each in FIGURES:
        if (values := each.match(place)) is not None:
            of_seed = "seed" not in values or values["seed"] == str(seed)
            return of_seed and ("arm" not in values or values["arm"] in arms)
    return False


def _copy(source: Path, target: Path, language: str, own: str, endings: Sequence[str]) -> list[Path]:
    copies = []
    for ending in endings:
        at = in_language(source, language, own)
        file = at.with_name(f"{at.name}.{ending}")
        if not file.exists():
            raise ThesisError(f"{file} is missing: run its notebook again, which draws it in both languages")
        with atomic(target.with_name(f"{target.name}.{ending}")) as temporary:
            shutil.copyfile(file, temporary)
        copies.append(target.with_name(f"{target.name}.{ending}"))
    return copies
