"""Pictures judged by eye, kept as a record: what was seen, when, in which pass, and how far two passes agree."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd

from thesis_lib.errors import ThesisError
from thesis_lib.randomness import numpy_generator
from thesis_lib.storage import write_text
from thesis_lib.widgets.controls import control, with_class
from thesis_lib.widgets.grid import PictureGrid, Position

VERDICTS = {"id": "Keep as ID", "near_ood": "Keep as near-OOD", "bad": "Bad"}
COLUMNS = (
    *("date", "pass", "verdict", "key", "class_name", "source_id", "timestep", "guidance_scale", "prompt"),
    *("region", "variation", "blind"),
)


class Judgements:
    """The record, a CSV file with a row a picture, pass and way (blind or not); judging again replaces the row.

    Several explorers may keep one record: each verdict is added to what the file has by then.

    Args:
        file: The file; it need not exist.

    Raises:
        ThesisError: It exists and is no such record.
    """

    def __init__(self, file: Path) -> None:
        self.file = Path(file)
        self.table = self._read()

    def _read(self) -> pd.DataFrame:
        texts = {"key": str, "class_name": str, "source_id": str, "prompt": str}  # an "NA" or "1e5" is a name, too
        table = pd.DataFrame(columns=list(COLUMNS))
        if self.file.exists():
            table = pd.read_csv(self.file, dtype=texts, keep_default_na=False)
        if list(table.columns) != list(COLUMNS):
            raise ThesisError(f"{self.file} is no record of judgements (columns {', '.join(COLUMNS)}): move it away")
        return table

    def record(self, number: int, key: str, verdict: str, blind: bool, **facts: Any) -> None:
        """Keep a verdict, on disk at once.

        Args:
            number: The pass.
            key: Which picture, see `PictureGrid.key`.
            verdict: One of `VERDICTS`.
            blind: Whether nothing was known of the picture.
            facts: The other columns.
        """
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        content = {"date": date, "pass": number, "verdict": verdict, "key": key, "blind": blind} | facts
        row, table = pd.DataFrame([content], columns=list(COLUMNS)), self._read()
        others = table[(table["pass"] != number) | (table["key"] != key) | (table["blind"] != blind)]
        self.table = pd.concat([others, row], ignore_index=True) if len(others) else row
        write_text(self.file, self.table.to_csv(index=False, lineterminator="\n"))

    def judged(self, number: int, blind: bool) -> set[str]:
        """Keys of the pictures judged in a pass, blind or not."""
        return set(self.table.loc[(self.table["pass"] == number) & (self.table["blind"] == blind), "key"])

    def agreement(self, first: int = 1, second: int = 2) -> dict[str, float]:
        """How far two passes agree on the pictures that both judged blind.

        Returns:
            pictures, their number; agreement, the share with the same verdict; kappa, Cohen's (1960), which is 0 for
            agreement by chance; nan where it is not defined (no picture, or one verdict throughout).
        """
        from sklearn.metrics import cohen_kappa_score

        blind = self.table[self.table["blind"].astype(bool)]
        by_pass = blind.pivot(index="key", columns="pass", values="verdict").reindex(columns=[first, second])
        both = by_pass.dropna()
        one, other = both[first].astype(str), both[second].astype(str)
        defined = len(set(one) | set(other)) > 1
        kappa = cohen_kappa_score(one, other) if defined else float("nan")
        return {"pictures": len(both), "agreement": float((one == other).mean()), "kappa": float(kappa)}


class JudgingPanel(widgets.VBox):
    """Buttons that judge the picture shown, and, blind, lead through all pictures in a random order.

    CSS classes for tests in a browser: `thesis-keep-id`, `thesis-keep-near_ood`, `thesis-keep-bad`, `thesis-pass`,
    `thesis-blind`, `thesis-judged`.

    Args:
        grid: The pictures.
        record: Where verdicts go.
        positions: The pictures that a blind pass shows.
        here: Gives the position shown.
        show: Goes to a position; its second argument says whether blind.
    """

    def __init__(
        self, grid: PictureGrid, record: Judgements, positions: Sequence[Position], here: Callable[[], Position],
        show: Callable[[Position, bool], None],
    ) -> None:  # fmt: skip
        self._grid, self._record, self._here, self._show = grid, record, here, show
        self._positions = {grid.key(position): position for position in positions}
        self.keep = {
            verdict: control(widgets.Button, f"keep-{verdict}", label, icon=icon)
            for (verdict, label), icon in zip(VERDICTS.items(), ("check", "adjust", "times"), strict=True)
        }
        for verdict, button in self.keep.items():
            button.on_click(lambda _, verdict=verdict: self._judge(verdict))
        self.number = control(widgets.BoundedIntText, "pass", "Pass", min=1, max=9)
        self.number.layout.width = "16em"
        self.blind = control(widgets.Checkbox, "blind", "blind, in random order", indent=False)
        self.blind.layout.width = "16em"
        self.said = with_class(widgets.HTML(), "judged")
        self.number.observe(self._change, "value")
        self.blind.observe(self._change, "value")
        rows = [[*self.keep.values()], [self.number, self.blind]]
        super().__init__([*(widgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows), self.said])
        self._say()

    def refresh(self) -> None:
        """Tell the panel that another picture is shown, or that one has been made."""
        there = self._grid.picture(self._here()) is not None
        for button in self.keep.values():
            button.disabled = not there

    def _judge(self, verdict: str) -> None:
        at, grid = self._here(), self._grid
        facts = {
            "class_name": grid.class_name(at), "source_id": grid.sources.table["source_id"].iat[at.source],
            "timestep": at.timestep, "guidance_scale": at.guidance_scale, "prompt": at.prompt, "region": at.region,
            "variation": at.variation,
        }  # fmt: skip
        blind = self.blind.value and at in self._left()  # what has been seen with open eyes is no longer blind
        try:
            self._record.record(self.number.value, grid.key(at), verdict, blind, **facts)
        except ThesisError as error:
            self.said.value = f"<b>{error}</b>"
            return
        self._change()

    def _change(self, _: Any = None) -> None:
        """Go on to the next picture of a blind pass, or stay."""
        left = self._left()
        if self.blind.value and left:
            self._show(left[0], True)
        else:
            self._show(self._here(), False)
        self._say()

    def _left(self) -> list[Position]:
        """What the pass has not seen, in its own random order."""
        keys = sorted(key for key, position in self._positions.items() if self._grid.picture(position) is not None)
        numpy_generator(self._grid.seed, "judging", self.number.value).shuffle(keys)
        seen = self._record.judged(self.number.value, True)
        return [self._positions[key] for key in keys if key not in seen]

    def _say(self) -> None:
        done = len(self._record.judged(self.number.value, self.blind.value))
        words = [f"pass {self.number.value}: {done} judged"]
        if self.blind.value:
            left = len(self._left())
            words.append(f"{left} left" if left else "<b>all pictures are judged</b>")
        found = self._record.agreement()
        if found["pictures"]:
            kappa = "not defined" if found["kappa"] != found["kappa"] else f"{found['kappa']:.2f}"
            share = f"{found['agreement']:.0%} of {found['pictures']} pictures"
            words.append(f"passes 1 and 2 agree on {share}, Cohen's kappa {kappa}")
        self.said.value = " · ".join(words)
