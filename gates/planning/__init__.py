"""Is this project ready to be trained reproducibly?"""
