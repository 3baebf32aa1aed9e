"""Sick and healthy training programs with known causes: what the diagnostics are judged by."""
