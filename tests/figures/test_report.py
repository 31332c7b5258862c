import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from thesis_lib.errors import ThesisError
from thesis_lib.figures.report import Section, report_sections, write_report
from thesis_lib.parameters import Parameters
from thesis_lib.randomness import numpy_generator

VOID = {"meta", "img", "br", "link"}


class Balance(HTMLParser):
    """Counts that every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_page_is_whole_and_self_contained(tmp_path: Path) -> None:
    drawing, photo = tmp_path / "drawing.png", tmp_path / "photo.png"
    Image.new("RGB", (300, 200), (10, 200, 30)).save(drawing)
    noise = numpy_generator(0, "noise").integers(0, 256, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    table = pd.DataFrame({"arm": ["a & b"], "value": [0.123456], "none": [np.nan]})
    sections = [
        Section("One <two>", "First\nline.\n\nSecond & last.", tables=[(table, "Means")]),
        Section(
            "Pictures",
            settings="name: <a>\nseeds: [0]\n",
            figures=[(drawing, 'a "green" field', "Green."), (photo, "noise", "Noise.")],
        ),
    ]
    page = write_report(tmp_path, "Run & report", sections, "de").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    for piece in ("<h2 id=\"s0\">One &lt;two&gt;</h2>", "<p>First line.</p>", "<p>Second &amp; last.</p>", 'lang="de"',
                  "a &amp; b", "0.123", "<figcaption>Means</figcaption>", "alt=\"a &quot;green&quot; field\"",
                  "viewport", "<figcaption>Green.</figcaption>", "<pre>name: &lt;a&gt;\nseeds: [0]\n</pre>",
                  "prefers-color-scheme: dark"):  # fmt: skip
        assert piece in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    embedded = [base64.b64decode(code) for code in re.findall(r"data:image/webp;base64,([^\"]+)", page)]
    pictures = [Image.open(io.BytesIO(code)) for code in embedded]
    assert [picture.size for picture in pictures] == [(300, 200), (400, 400)]
    assert pictures[0].convert("RGB").getpixel((5, 5)) == (10, 200, 30)  # drawings keep their colours
    assert len(embedded[1]) < photo.stat().st_size / 2


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ThesisError, match=r"gone\.png"):
        write_report(tmp_path, "t", [Section("s", figures=[(tmp_path / "gone.png", "", "")])])
    assert not (tmp_path / "report.html").exists()


def test_sections_hold_what_a_run_has_and_say_what_it_lacks(tmp_path: Path) -> None:
    analysis = tmp_path / "seed3" / "analysis"
    pictures = (
        tmp_path / "figures" / "forest.png", tmp_path / "figures" / "surface.png", analysis / "embedding_real.png",
        analysis / "embedding_extra.png", tmp_path / "seed3" / "synthetic" / "hardness.png",
        tmp_path / "audit" / "shifts.png",
    )  # fmt: skip
    for path in pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    stamp = {"versions": {"numpy": "2"}, "commit": "abc", "dirty": False, "python": "3.11", "date": "today"}
    (analysis / "stage.json").write_text(json.dumps(stamp))
    parameters = Parameters(name="toy", seeds=[3, 4], description="Why.")
    tables = {"arms": pd.DataFrame({"arm": ["real"]}), "hypotheses": pd.DataFrame()}
    sections = {
        section.heading: section
        for section in report_sections(tmp_path, parameters, ["real", "real_id"], tables, ["Yes.", "Two seeds."])
    }
    assert "Reproduction audit" not in sections  # a figure alone is no audit
    first = sections["Questions and answers"]
    assert first.text.startswith("Why.\n\nYes.\n\nTwo seeds.\n\nAbsent: OOD detection")
    assert "Absent: changed conditions" in first.text
    assert not first.tables
    shown = [path.name for section in sections.values() for path, *_ in section.figures]
    assert shown == ["forest.png", "surface.png", "hardness.png", "embedding_real.png"]
    assert "FPR95" in sections["Comparison"].tables[0][1]
    pd.DataFrame({"erratum": ["1 labels shuffled"]}).to_csv(tmp_path / "audit" / "audit.csv", index=False)
    saliency = pd.DataFrame({"arm": ["real", "extra"], "split": "test", "blind": 0.0})
    saliency[["inside", "area", "centre", "texture", "shape", "lean"]] = 0.5
    saliency.to_csv(analysis / "saliency.csv")
    *_, looks, audit, _ = report_sections(tmp_path, parameters, ["real"], tables, [])
    assert looks.tables[0][0]["arm"].tolist() == ["real"]
    assert audit.heading == "Reproduction audit"
    assert (len(audit.tables), len(audit.figures)) == (1, 1)


def test_only_sentences_in_a_table_are_broken_into_lines(tmp_path: Path) -> None:
    table = pd.DataFrame({"mean": ["71.4 ± 3.2"], "verdict": ["Shown for these pictures and parts, not beyond them."]})
    page = write_report(tmp_path, "t", [Section("s", tables=[(table, "")])]).read_text(encoding="utf-8")
    assert "<td>71.4 ± 3.2</td>" in page
    assert '<td class="long">Shown for these pictures and parts, not beyond them.</td>' in page
