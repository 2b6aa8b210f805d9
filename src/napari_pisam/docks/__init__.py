"""What each dock does, as plain calls and view models; no Qt may enter."""
