"""The commands ``flask xgen-sessions``, and ``doctor``, which finds faults in a set-up.

Knows terminals and exit codes. Holds no rule of its own.
"""
