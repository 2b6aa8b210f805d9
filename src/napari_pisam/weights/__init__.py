"""Which weights exist, where they come from, and how untrusted files of them are read."""
