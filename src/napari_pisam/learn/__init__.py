"""What learns: settings, samples, objective, one loop, verdict, run folder; no named data set."""
