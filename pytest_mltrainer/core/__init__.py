"""What decides: configuration, artifacts, verdicts, pipeline. No pytest, torch or numpy here."""
