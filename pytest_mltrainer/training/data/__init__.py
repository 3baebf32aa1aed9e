"""Measured facts of the data: what the splits hold, and what simple references make of them."""
