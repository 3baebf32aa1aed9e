"""Markdown from measured values, comparison of the numbers in it, and plots."""
