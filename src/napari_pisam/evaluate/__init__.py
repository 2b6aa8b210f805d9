"""How good masks are: measures, the field's protocols, baselines and a report."""
