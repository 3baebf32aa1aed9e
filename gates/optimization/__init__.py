"""Is the improvement real, and is it proven?"""
