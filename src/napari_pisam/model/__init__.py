"""The network: torch modules and checkpoints."""
