"""Qt docks: layout and wiring, nothing else."""
