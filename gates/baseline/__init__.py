"""Is the baseline sound, and is it proven?"""
