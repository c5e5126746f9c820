"""The instructor's autograder: `python -m grading --help`, and the README in this folder.

It finds the exercise functions in submitted notebooks (`notebook`), runs them in a sandbox (`sandbox`, `inside`), judges
their answers outside of it (`checks`, `cases`), never stops for one submission (`batch`), and writes marks, feedback and
a class report (`report`, `similarity`). `nbgrader_course` lays out the same exercises for nbgrader.
"""
