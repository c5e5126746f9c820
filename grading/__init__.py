"""The instructor's autograder: `python -m grading --help`, and the README in this folder.

It takes what learning platforms hand out (`submissions`), finds the exercise functions in it (`inside.notebook`), runs them in a
sandbox (`sandbox`, `walls`, `inside`), judges their answers outside it (`checks`, `grade`), never stops for one submission
(`batch`), and writes marks (`marks`, `roster`), feedback (`feedback`) and a class report (`class_report`, `similarity`).

`nbgrader_course` lays out the same exercises for nbgrader, `classroom` for GitHub Classroom (with `public_checks`);
`synthetic_class` makes a class to try it on, `benchmark` measures it beside nbgrader.
"""
