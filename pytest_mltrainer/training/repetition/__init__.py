"""Does a training repeat, and where it does not, which step, tensor and line is it?"""
