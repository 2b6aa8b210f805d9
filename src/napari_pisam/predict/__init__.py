"""Images and prompts in, masks out."""
