"""Trials and rounds: what is tried, compared and accepted behind a diagnosis."""
