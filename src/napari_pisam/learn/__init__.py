"""Training data, clicks, losses and the training loop."""
