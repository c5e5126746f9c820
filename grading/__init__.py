"""The instructor's autograder: `python -m grading --help`, and the README in this folder.

It takes what learning platforms hand out (`submissions`, `platforms`, `archives`), chooses each student's notebook (`choice`),
finds the exercise functions in it and runs them in a sandbox (`inside`, `sandbox`, `walls`), judges their answers outside it
(`checks`, `grade`), never stops for one submission (`batch`), and writes marks (`marks`, `roster`, `deadline`), feedback
(`feedback`) and a class report (`class_report`, `similarity`).

`nbgrader_course` lays out the same exercises for nbgrader, `classroom` for GitHub Classroom (with `public_checks`);
`synthetic_class` makes a class to try it on, `benchmark` measures it beside nbgrader.
"""
