"""The checks that judge each phase. Only test functions, and their shared bodies in common.py."""
