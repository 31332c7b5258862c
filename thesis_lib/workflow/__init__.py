"""How an experiment runs: its folder, its stages, the notebooks' execution, the command line `thesis`."""
