"""Objects with their prompts and masks, undo and redo, background requests, commit. No Qt here."""
