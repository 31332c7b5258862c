"""Execute one job's notebook through papermill; the Snakefile calls it.

    python -m thesis_lib.workflow.execute runs/quickstart/parameters.yaml training --seed 0 --arm real --threads 1

The executed notebook stays as the log, also of a failure; what it prints lies beside it as .log. The journal of the run
gets a line when the job starts, and one when it ends.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameter_files import read_parameters
from thesis_lib.workflow.project import project_root
from thesis_lib.workflow.stages import Job, make_job

JOURNAL = ".journal.jsonl"


def execute(experiment: str, job: Job, run: Path) -> str:
    """Execute a job's notebook and return what went wrong in one sentence; empty when all went well.

    Args:
        experiment: The parameter file, relative to the project.
        job: The job.
        run: The run's folder; the executed notebook goes to its `notebooks/`.
    """
    import papermill
    from papermill.exceptions import PapermillException, PapermillExecutionError

    root = project_root()
    executed = run / job.log
    executed.parent.mkdir(parents=True, exist_ok=True)
    (run / job.stamp).unlink(missing_ok=True)  # it is not done any more
    source = root / "notebooks" / job.stage.notebook
    arguments = job.arguments(experiment, read_parameters(root / experiment))
    try:
        with executed.with_suffix(".log").open("w", encoding="utf-8") as output:
            papermill.execute_notebook(
                source,
                executed,
                arguments,
                cwd=source.parent,  # as in JupyterLab
                progress_bar=False,
                stdout_file=output,
                stderr_file=output,
            )
    except PapermillExecutionError as error:
        sentence = " ".join(str(error.evalue).split())
        return sentence if error.ename == "ThesisError" else f"{error.ename} in cell {error.exec_count}: {sentence}"
    except (PapermillException, RuntimeError, OSError) as error:
        if type(error).__name__ == "DeadKernelError":
            return "its kernel died, most likely for want of memory: use smaller batches or a machine with more"
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if not (run / job.stamp).exists():
        return f"the notebook ended without writing {job.stamp}: its last cell must call run.finish"
    return ""


def record(run: Path, job: Job, event: str, **content: Any) -> None:
    """Append a line to the run's journal, which `thesis run` follows."""
    line = json.dumps({"job": job.label, "event": event, "time": time.time(), "log": job.log, **content}) + "\n"
    with (run / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(line)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("stage")
    parser.add_argument("--seed")
    parser.add_argument("--arm")
    parser.add_argument("--threads", default="1")
    given = parser.parse_args()
    for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = given.threads
    # Seeing this, tqdm prints its bars as text, once a second, and `thesis run` can show them.
    os.environ |= {"SPYDER_TQDM": "text", "TQDM_MININTERVAL": "1"}
    # A terminated process would leave its kernel behind; one that exits takes it along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    job = make_job(given.stage, given.seed, given.arm)
    run = (project_root() / given.experiment).parent
    record(run, job, "start")
    started = time.monotonic()
    try:
        problem = execute(given.experiment, job, run)
    except ThesisError as error:
        problem = str(error)
    if problem:
        record(run, job, "failed", problem=problem)
        print(f"{job.label}: {problem}\nexecuted notebook: {run / job.log}", file=sys.stderr)
        sys.exit(1)
    told = (run / job.log).with_suffix(".log").read_text(encoding="utf-8", errors="replace")
    notes = list(dict.fromkeys(re.findall(rf"{ThesisWarning.__name__}: (.+)", told)))
    record(run, job, "done", seconds=round(time.monotonic() - started, 1), notes=notes)


if __name__ == "__main__":
    main()
