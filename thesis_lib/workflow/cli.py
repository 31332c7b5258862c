"""The command line: `thesis run`, `thesis check` and `thesis figures`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TimeElapsedColumn

from thesis_lib.errors import ThesisError
from thesis_lib.figures.words import LANGUAGES
from thesis_lib.parameter_files import dump_parameters, read_parameters
from thesis_lib.parameters import Experiment, Parameters
from thesis_lib.storage import write_text
from thesis_lib.workflow.execute import JOURNAL
from thesis_lib.workflow.lock import TOKEN, running
from thesis_lib.workflow.project import has_gpu, project_root, runs_folder, seeds_beside, shown
from thesis_lib.workflow.stages import Job, all_jobs, plan

commands = typer.Typer(no_args_is_help=True, add_completion=False, help="Run experiments: parameters/*.yaml.")
console = Console(stderr=True, highlight=False, soft_wrap=True)

File = Annotated[Path, typer.Argument(help="the experiment's parameter file", metavar="PARAMETERS")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="a changed parameter; repeatable", metavar="KEY=VALUE")]
Name = Annotated[str | None, typer.Option(help="the run's folder inside runs/")]


@commands.command()
def run(
    parameters: File,
    set_: Sets = None,
    name: Name = None,
    cores: Annotated[int | None, typer.Option(min=1, help="processor cores; all when not given")] = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage", metavar="STAGE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would run")] = False,
    profile: Annotated[Path | None, typer.Option(help="folder of a Snakemake profile, for a cluster")] = None,
) -> None:
    """Run what is not done yet of an experiment; the same command continues a run that was ended anywhere."""
    started = time.monotonic()
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the children are stopped first
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup's wish
            signal.signal(ending, signal.default_int_handler)
    root = project_root()
    asked = _read(parameters, set_, name)
    folder = runs_folder(root) / asked.name
    if dry_run:
        todo = plan(asked, root, folder, until)
        for job, reason in todo.items():
            print(f"{job.label:<40} {reason}")
        would = f"{len(todo)} of {len(all_jobs(asked, until))} jobs would run" if todo else "nothing to do"
        print(f"{would}: {shown(folder, root)}")
        return
    all_jobs(asked, until)  # refuses an unknown stage before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    with running(folder) as token:
        text = dump_parameters(asked)
        kept = folder / "parameters.yaml"
        if not kept.exists() or kept.read_text(encoding="utf-8") != text:
            write_text(kept, text)
        todo = plan(asked, root, folder, until)
        if todo:
            console.print(f"{len(todo)} of {len(all_jobs(asked, until))} jobs to run: {shown(folder, root)}")
            beside = 1 if profile else seeds_beside(asked)
            _snakemake(list(todo), root, folder, token, cores or _all_cores(), beside, profile)
    last = all_jobs(asked, until)[-1]
    count = "1 notebook" if len(todo) == 1 else f"{len(todo)} notebooks"
    done = f"{count} in {_clock(time.monotonic() - started)}" if todo else "nothing to do"
    print(f"{done}: {shown(folder / last.folder if until else folder / 'report.html', root)}")


@commands.command()
def check(parameters: File, set_: Sets = None, name: Name = None) -> None:
    """Say what is wrong with a parameter file and the data it names, or what would run and about how long."""
    from thesis_lib.workflow.check import estimate, problems

    root, asked = project_root(), _read(parameters, set_, name)
    found, remarks, classes = problems(asked, root)
    print("\n".join(remarks))
    if found:
        raise ThesisError("\n".join(found))
    print("\n".join(estimate(asked, root, runs_folder(root) / asked.name, classes, _all_cores())))


@commands.command()
def figures(
    run: Annotated[Path, typer.Argument(help="a run's folder, or its name in runs/", metavar="RUN")],
    language: Annotated[str, typer.Option(help="en or de; the run's own when not given")] = "",
    out: Annotated[Path | None, typer.Option(help="where they go; RUN/print/LANGUAGE when not given")] = None,
    seed: Annotated[int | None, typer.Option(help="whose own figures; the first when not given")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="whose own figures; repeatable; the confirmatory ones")] = None,
) -> None:
    """Copy a run's figures and tables for a thesis, with captions in one language, and a LaTeX file of them all."""
    from thesis_lib.figures.export import export

    root = project_root()
    folder = run if run.is_dir() else runs_folder(root) / run
    kept = folder / "parameters.yaml"
    asked = read_parameters(kept) if kept.exists() else Parameters(name=folder.name)  # notebook 10 keeps none
    if (language := language or asked.language) not in LANGUAGES:
        raise ThesisError(f"--language {language}: choose one of {', '.join(LANGUAGES)}")
    target = out or folder / "print" / language
    seed = asked.seeds[0] if seed is None else seed
    known = asked.arm_names if isinstance(asked, Parameters) else []
    if unknown := [f"--arm {name}" for name in arm or [] if name not in known]:
        raise ThesisError(f"{unknown[0]}: {asked.name} has the arms {', '.join(known) or 'none'}")
    if seed not in asked.seeds:
        raise ThesisError(f"--seed {seed}: {asked.name} has the seeds {', '.join(map(str, asked.seeds))}")
    arms = arm or (list(asked.arms) if isinstance(asked, Parameters) else [])
    written = export(folder, target, language, asked.language, arms, seed)
    for file in written:
        print(shown(file, root))
    print(f"{len(written)} files; pdflatex figures.tex in {shown(target, root)} prints them all")


def app() -> None:
    """The console script: a ThesisError becomes its sentence and exit status 2."""
    try:
        commands()
    except (ThesisError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError):  # a full disk, mostly
            remedy = "free some space, or name another folder in THESIS_RUNS, and run the same command again"
            said = f"{error.filename or 'writing into the run'}: {error.strerror}; {remedy}"
        console.print(said, style="red", markup=False)
        sys.exit(2)


def _read(path: Path, sets: list[str] | None, name: str | None = None) -> Experiment:
    """The parameters of a file, which is relative to the working directory or to the project."""
    if not path.exists() and (project_root() / path).exists():
        path = project_root() / path
    return read_parameters(path, [*(sets or []), *([f"name={json.dumps(name)}"] if name else [])])


def _snakemake(
    jobs: list[Job], root: Path, folder: Path, token: str, cores: int, beside: int, profile: Path | None
) -> None:
    """Have Snakemake run the jobs, and show how they fare."""
    stamps = [job.stamp for job in jobs]
    command: list[str | Path] = [sys.executable, "-m", "snakemake", *stamps, "--forcerun", *stamps]
    command += ["--snakefile", root / "Snakefile", "--directory", folder, "--scheduler", "greedy", "--keep-going"]
    experiment = shown(folder / "parameters.yaml", root)
    command += ["--config", f"experiment={experiment}", f"cores={cores}", f"beside={beside}"]
    # What to run is decided (forcerun); the lock is ours; a stamp is written whole, so none is ever incomplete.
    command += ["--rerun-triggers", "params", "--nolock", "--ignore-incomplete", "--keep-incomplete"]
    command += ["--workflow-profile", profile.resolve()] if profile else ["--cores", str(cores)]
    if not profile and has_gpu():
        command += ["--resources", "gpu=1"]  # one notebook at a time on it
    journal, log = folder / JOURNAL, folder / "snakemake.log"
    journal.write_text("")
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | {TOKEN: token},
            start_new_session=True,  # Ctrl-C reaches us alone, and `running` stops the children in order
        )
        try:
            failures = _follow(process, journal, folder, len(jobs))
        except KeyboardInterrupt:
            raise ThesisError("stopped; what was finished is kept, the same command continues") from None
    if failures:
        told = (f"{at['job']}: {at['problem']}\n  see {shown(folder / at['log'], root)}" for at in failures)
        raise ThesisError("\n".join(told))
    if process.returncode:
        if shutil.disk_usage(folder).free < 1_000_000:
            raise ThesisError(f"{folder}: the disk is full: free some space and run the same command again")
        tail = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][-8:]
        raise ThesisError("\n".join([f"Snakemake failed; the end of {shown(log, root)}:", *tail]))


def _event(line: str) -> dict[str, Any] | None:
    """A line of the journal; none for one that several machines wrote at once, as some file systems let them."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return None


def _follow(process: "subprocess.Popen[bytes]", journal: Path, folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Show the jobs that start and end until Snakemake does; return those that failed."""
    columns = (SpinnerColumn(), "{task.description}", BarColumn(20), TimeElapsedColumn(), "{task.fields[last]}")
    shows = console.is_terminal
    failures: dict[str, dict[str, Any]] = {}
    bars: dict[str, tuple[TaskID, Path]] = {}
    seen = done = 0
    with Progress(*columns, console=console, disable=not shows, transient=True) as progress:
        everything = progress.add_task(f"all {jobs}", total=jobs, last="")
        while True:
            ended = process.poll() is not None
            lines = journal.read_text(encoding="utf-8").split("\n")[:-1]  # the last is still being written
            for at in map(_event, lines[seen:]):
                if at is None:
                    continue
                if at["event"] == "start":
                    bar = progress.add_task(at["job"], total=None, last="")
                    bars[at["job"]] = (bar, (folder / at["log"]).with_suffix(".log"))
                    continue
                if at["job"] in bars:
                    progress.remove_task(bars.pop(at["job"])[0])
                if at["event"] == "failed":
                    failures[at["job"]] = at
                    console.print(f"[red]failed[/] {at['job']}")
                    continue
                failures.pop(at["job"], None)  # a profile may try a job again
                done += 1
                progress.update(everything, completed=done)
                console.print(f"[green]done[/]   {at['job']:<32} {_clock(at['seconds']):>12}  ({done} of {jobs})")
                for note in at.get("notes", []):
                    console.print(f"[yellow]note[/]   {escape(note)}")
            seen = len(lines)
            if ended:
                return list(failures.values())
            for bar, log in bars.values() if shows else ():
                progress.update(bar, last=_last_words(log))
            time.sleep(0.2)


def _last_words(log: Path, length: int = 70) -> str:
    """The last line a notebook printed, usually its progress bar."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 1000))
            lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-length:].replace("[", "\\[")


def _all_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    app()
