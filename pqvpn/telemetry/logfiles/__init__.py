"""Log lines: what one says (`lines`, `messages`), which are wanted (`levels`), repeats summarised (`repeats`), files.

The same lines go to the standard error of each process (`telemetry/jsonlog.py`) and to the files of the observer
(`journal`, `files`).
"""
