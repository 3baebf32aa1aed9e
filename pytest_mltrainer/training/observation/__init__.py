"""What is recorded of any training while it runs, and by whom."""
