"""Is the diagnosis of the baseline evidenced, and what follows from it concrete?"""
