"""The graph of an experiment: one rule a stage, one notebook a rule, executed by papermill.

Use it through `thesis run parameters/NAME.yaml`, which writes the merged parameters to runs/NAME/parameters.yaml, works out
by content which jobs are out of date (thesis_lib/workflow/stages.py, where the stages and their inputs stand) and has
exactly those run. By hand, which only sees absent stamps:

    snakemake --directory runs/NAME --config experiment=runs/NAME/parameters.yaml cores=2 --cores 2

Paths are relative to the run's folder. The only outputs are the stamps: what a stage has done so far survives its end.
"""

import sys
from pathlib import Path
from shlex import quote

from snakemake.utils import min_version

from thesis_lib.parameter_files import read_parameters
from thesis_lib.workflow.stages import Job, all_jobs, job_inputs, make_job, stages_of

min_version("9.10")

experiment = config["experiment"]  # relative to the project
parameters = read_parameters(Path(workflow.basedir) / experiment)
execute = f"cd {quote(workflow.basedir)} && {quote(sys.executable)} -m thesis_lib.workflow.execute {quote(experiment)}"


wildcard_constraints:
    seed=r"\d+",
    arm="|".join(parameters.arm_names),


rule all:
    input:
        [job.stamp for job in all_jobs(parameters)],


for stage in stages_of(parameters):
    pattern = Job(stage, **{name: f"{{{name}}}" for name in stage.wildcards})  # its paths have Snakemake's wildcards

    rule:
        name:
            stage.name
        input:
            lambda wildcards, stage=stage: [
                needed.stamp
                for needed in job_inputs(make_job(stage.name, **wildcards), parameters)
            ],
        output:
            pattern.stamp,
        log:
            notebook=pattern.log,
        params:
            wildcards=" ".join(f"--{name} {{{name}}}" for name in stage.wildcards),
        priority:
            int(not stage.threads)  # what may want all cores comes first, else single jobs keep them from it
        threads: stage.threads_of(int(config.get("cores", 1)), int(config.get("beside", 1)))
        resources:
            mem_mb=16000,
            runtime=stage.minutes,
            **({"gpu": 1} if stage.gpu else {}),
        shell:
            "{execute} {rule} {params.wildcards} --threads {threads}"
