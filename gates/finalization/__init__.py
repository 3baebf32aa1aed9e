"""Is this model ready for production?"""
