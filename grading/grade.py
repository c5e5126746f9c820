"""Grades one submission: finds its functions, runs them in the sandbox, judges, and says so in a plain dictionary."""

import ast
import re
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from . import checks
from .course import Assignment, assignment
from .inside import notebook, wire
from .sandbox import Limits, Sandbox, SandboxBroken, SandboxBusy, SandboxEnded, Session

# Exercises that time out, or nearly do and are wrong, before the others of the same submission get a fifth of the time.
PATIENCE = 2
MOST_PATIENCE = 240.0  # seconds that a student's process may take on an overloaded machine
MOST_BUSY = 4  # times that one submission gets more patience because the machine is overloaded; then it is tried again later
READING = 20  # seconds of processor time for one notebook
FAST = sys.stdlib_module_names | {"numpy", "pandas"}  # importing any other module takes seconds that are not the function's
ABSENT = re.compile(r"No (?:module named|such file or directory:) '([\w./-]+)'")
WHY_ABSENT = (
    "likely a file of the student's own that was not handed in, or lies beside the notebook, which alone is graded; "
    "else a library that is not installed."
)
OUTCOMES = ("right", "wrong", "error", "timeout", "not attempted", "not found")


@dataclass(frozen=True)
class Settings:
    """What is the same for the whole class. `seed` draws the hidden cases; keep it to yourself."""

    number: int
    seed: int
    sandbox: str = "auto"
    image: str = "ai-for-medical-diagnosis"
    cpu: int = 0  # seconds for one exercise; 0: as the notebook needs
    memory: int = 0  # MiB; 0: as the notebook needs
    partial: bool = True
    warm: bool = True
    hidden: tuple[str, ...] = ()  # files and folders that no sandbox may show: results, submissions

    @property
    def assignment(self) -> Assignment:
        return assignment(self.number)

    @property
    def limits(self) -> Limits:
        tensorflow = self.assignment.tensorflow
        cpu = self.cpu or (60 if tensorflow else 10)
        return Limits(cpu, max(4.0, 1.5 * cpu), (self.memory or (4096 if tensorflow else 2048)) << 20, tensorflow)


class Grader:
    """A sandbox (a `shared` one, or its own) and what it takes to judge one notebook. Lives as long as its process grades."""

    def __init__(
        self, settings: Settings, yardsticks: dict[str, checks.Yardstick] | None = None, shared: Sandbox | None = None
    ) -> None:
        self.settings, self.assignment = settings, settings.assignment
        self.left_out = ""  # lines of the last function that was run that did not run
        self.timeouts = self.busy = 0  # of the submission that is being graded
        self.slow = False  # whether the exercise that is being graded took more than half of its time
        self.not_right: set[str] = set()  # its exercises so far
        self.sandbox = shared or Sandbox(
            settings.sandbox,
            tensorflow=self.assignment.tensorflow,
            image=settings.image,
            warm=settings.warm,
            hidden=settings.hidden,
            libraries=self._libraries,
            given=self.assignment.skeleton,
        )
        try:
            self.yardsticks = yardsticks or self.calibrate()
        except SandboxBroken:
            if not self.sandbox.warm:
                raise
            self.sandbox.stop()  # perhaps a library that does not survive a fork: a fresh process for each exercise, then
            self.sandbox.warm = False
            self.yardsticks = self.calibrate()

    def close(self) -> None:
        self.sandbox.stop()

    def calibrate(self) -> dict[str, checks.Yardstick]:
        """Grade the lesson's own answers: a self-test of the grader, and the number of cases that a right answer passes.

        Raises
        ------
        SandboxBroken
            When they are not right: then nobody else may be graded.
        """
        yardsticks = {}
        for name, answer in self._solution.items():
            runs = [self._run(name, answer, seed) for seed in (self.settings.seed, None)]
            if not all(isinstance(run, checks.Run) and run.right for run in runs):
                said = "; ".join(str(getattr(run, "message", run) or getattr(run, "hint", "")) for run in runs)
                raise SandboxBroken(f"The lesson's own {name} does not pass here, so nobody is graded: {said[:1500]}")
            yardsticks[name] = checks.yardstick(*runs)
        return yardsticks

    def _run(self, name: str, answer: notebook.Answer, seed: int | None) -> checks.Run | dict[str, Any]:
        """One run of a check in a fresh process; a dictionary with outcome and message where it did not come to that."""
        limits = self.settings.limits
        if self.timeouts >= PATIENCE:
            limits = replace(limits, cpu=max(1, limits.cpu // 5), wall=max(2.0, limits.wall / 5))
        elif any(_imports_slowly(source) for *_, source in answer.code):  # who sleeps everywhere does not get it each time
            limits = replace(limits, cpu=limits.cpu + 10, wall=limits.wall + 15)
        for attempt in (1, 2, 3):
            try:
                with self.sandbox.session(limits) as session:
                    run = self._load(session, name, answer) or checks.run_check(name, session, seed)
                    self.slow |= session.waited > limits.wall / 2
                    return run
            except SandboxEnded as ended:
                return {"outcome": "timeout" if ended.how == "timeout" else "error", "message": f"{name}: {ended.text}"}
            except SandboxBusy:
                if attempt == 3 or self.busy >= MOST_BUSY:
                    raise
                self.busy += 1
                limits = replace(limits, wall=4 * limits.wall if attempt == 1 else max(4 * limits.wall, MOST_PATIENCE))
            except SandboxBroken:
                self.sandbox.stop()
                if attempt == 2:
                    self.sandbox.warm = False  # this system may refuse namespaces inside of namespaces
                elif attempt == 3:
                    raise
        raise AssertionError

    def _load(self, session: Session, name: str, answer: notebook.Answer) -> dict[str, Any] | None:
        reply, _ = session.ask({"exercise": name, "tensorflow": self.assignment.tensorflow, "code": answer.code})
        self.left_out = _left_out(reply.get("problems")) if isinstance(reply, dict) else ""
        if not (isinstance(reply, dict) and reply.get("ready")):
            problems = reply.get("problems") if isinstance(reply, dict) else None
            return {"outcome": "error", "message": f"{name}: its definition fails: {_problem(problems)}"}
        if not reply.get("callable"):
            return {"outcome": "wrong", "message": f"{name} is a value, not a function: is it assigned again further down?"}
        return None

    def exercise(self, name: str, answer: notebook.Answer) -> dict[str, Any]:
        """Outcome, points and message of one exercise."""
        self.slow = False
        result = self._exercise(name, answer)
        self.timeouts += result["outcome"] == "timeout" or (self.slow and result["outcome"] != "right")
        if result["outcome"] != "right":
            self.not_right.add(name)
        return result

    @cached_property
    def _solution(self) -> dict[str, notebook.Answer]:
        return notebook.find_answers(list(self.assignment.solution), self.assignment.exercises)

    @property
    def _libraries(self) -> list[str]:
        """What the lesson's own answers import: read once, not in every student's time."""
        statements = {source for answer in self._solution.values() for *_, source in answer.code}
        nodes = [node for source in statements for node in ast.parse(source).body]
        return sorted(
            {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
            | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        )

    def _helpers(self, answer: notebook.Answer) -> set[str]:
        """The other exercises whose functions an answer comes with, because it calls them."""
        return {name for *_, source in answer.code if (name := _defined(source)) in self._solution and source != answer.own}

    def _with_right_helpers(self, answer: notebook.Answer, names: set[str]) -> notebook.Answer:
        """The answer with the lesson's own functions in place of the student's."""
        code = []
        for part in answer.code:
            name = _defined(part[2])
            code += self._solution[name].code if name in names and part[2] != answer.own else [part]
        return replace(answer, code=code)

    def _exercise(self, name: str, answer: notebook.Answer) -> dict[str, Any]:
        most = self.assignment.points[name]
        result: dict[str, Any] = {
            "outcome": "not found",
            "points": 0.0,
            "max": most,
            "message": "",
            "hint": "",
            "group": "",
            "share": 0.0,
            "code": answer.own[:20_000],
            "cell": answer.cell + 1,
            "helpers": "\n\n".join(answer.helpers)[:20_000],
        }
        if answer.found == "not found":
            result["message"] = f"There is no function {name} in the notebook. {answer.note}".strip()
            return result
        if answer.found == "not attempted":
            result.update(outcome="not attempted", message="The function is still as it was handed out.")
            return result
        if answer.found == "broken":
            result.update(outcome="error", message=f"{name} is no valid Python: {answer.note}", group="the code is no valid Python")
            return result
        hidden = self._run(name, answer, self.settings.seed)
        slipped = self._helpers(answer) & self.not_right
        if slipped and not (isinstance(hidden, checks.Run) and hidden.right):  # a mistake made there costs nothing here
            answer = self._with_right_helpers(answer, slipped)
            hidden = self._run(name, answer, self.settings.seed)
        if isinstance(hidden, dict):
            return result | hidden | {"group": _group(hidden["message"])}
        if hidden.not_written:
            result.update(outcome="not attempted", message="The function raises NotImplementedError.")
            return result
        share = self.yardsticks[name].share(hidden)
        part = checks.credit(share, hidden.right) if self.settings.partial else float(hidden.right)
        result.update(outcome="right" if hidden.right else "wrong", share=round(share, 4), points=round(most * part, 2))
        if hidden.right:
            given = f" Judged with a right {' and '.join(sorted(slipped))} in place of yours, which it calls." if slipped else ""
            result["message"] = f"All checks passed.{given}"
            return result
        if hidden.ended:
            result.update(outcome="timeout" if hidden.ended == "timeout" else "error", message=f"{name}: {hidden.message}")
            return result | {"group": _group(hidden.message)}
        public = self._run(name, answer, None)  # its message shows inputs that students know
        if isinstance(public, dict):
            return result | public | {"group": _group(public["message"])}
        if public.ended:
            result.update(outcome="timeout" if public.ended == "timeout" else "error", message=f"{name}: {public.message}")
        elif public.right:
            error = f" It raises {hidden.raised} there." if hidden.raised else ""
            about = f" What they are about: {', '.join(hidden.wrong_about)}." if hidden.wrong_about else ""
            result.update(
                message=f"{name} passes the check in the notebook, but is not right for other inputs.{about}{error} Does it hold "
                "for any threshold, shape and type, or only for the examples?",
                group=f"right for the public cases only{': ' * bool(about)}{', '.join(hidden.wrong_about)}",
            )
        else:
            if public.raised:
                result["outcome"] = "error"
            where = ", ".join(f"{cell} line {line}" for cell, line in public.lines[-2:])
            message, _, hint = public.message.partition("\n  hint:")
            result.update(message=message + (f"\n  where:    {where}" if where and public.raised else ""), hint=hint.strip())
            if not public.raised:  # what was proven, not what is guessed
                result["group"] = public.proven or (f"not right: {public.about}" if public.about else "")
        if self.left_out and not public.right:  # in the notebook they may have run, and the function be right
            result.update(outcome="error", left_out=self.left_out)
            result["message"] += f"\n  A line that the grader left out: {self.left_out}"
        result["group"] = result["group"] or (f"{public.raised}: " if public.raised else "") + _group(
            result["hint"] or result["message"]
        )
        return result

    def grade(self, data: bytes) -> dict[str, Any]:
        """Grade a notebook file: `status`, `exercises`, `total`, `seconds`. Never raises for what is in it."""
        start, self.timeouts, self.busy, self.not_right = time.perf_counter(), 0, 0, set()
        try:
            answers, others = self.read(data)
        except notebook.NotebookError as error:
            return {
                "status": "unreadable",
                "note": str(error),
                "exercises": self.nothing(str(error)),
                "total": 0.0,
                "seconds": round(time.perf_counter() - start, 3),
            }
        status, note = "graded", ""
        if all(answer.found == "not found" for answer in answers.values()):
            number = _most_common(others)
            if number:
                status, note = "wrong notebook", f"This looks like notebook {number:02d}; {self.assignment.name} was asked for."
            else:
                status, note = "no exercises", "None of the exercise functions is in this notebook."
        exercises = {name: self.exercise(name, answer) for name, answer in answers.items()}
        if by_hand := [name for name, exercise in exercises.items() if "left_out" in exercise]:
            note = f"{note} The grader left out lines of {', '.join(by_hand)}: please look at them by hand.".strip()
        said = " ".join(f"{e['message']} {e['hint']}" for e in exercises.values())
        if absent := sorted(set(ABSENT.findall(said))):
            note = f"{note} There is no {', '.join(absent)} here: {WHY_ABSENT}".strip()
        if notebook.half_merged(data):
            note = f"{note} The notebook holds {notebook.MERGE}.".strip()
        return {
            "status": status,
            "note": note,
            "exercises": exercises,
            "total": round(sum(e["points"] for e in exercises.values()), 2),
            "seconds": round(time.perf_counter() - start, 3),
        }

    def nothing(self, note: str) -> dict[str, Any]:
        """The exercises of a submission that cannot be read."""
        return {
            name: {
                "outcome": "not found",
                "points": 0.0,
                "max": most,
                "message": note,
                "hint": "",
                "group": "",
                "share": 0.0,
                "code": "",
                "helpers": "",
                "cell": 0,
            }
            for name, most in self.assignment.points.items()
        }

    def read(self, data: bytes) -> tuple[dict[str, notebook.Answer], list[str]]:
        """The answers in a notebook file, and which exercises of other notebooks it defines. Read in the sandbox, within limits.

        Raises
        ------
        NotebookError
            When it is none, or takes too much time or memory.
        """
        notebook.check_size(data)
        names = self.assignment.exercises
        others = [name for name in checks.EXERCISES if name not in names]
        limits = replace(self.settings.limits, cpu=READING, wall=1.5 * READING)
        job = {"exercises": names, "others": others, "given": list(self.assignment.skeleton)}
        for attempt in (1, 2):
            try:
                with self.sandbox.session(limits) as session:
                    reply, _ = session.ask(job, [data], wire.MAX_JSON)
                break
            except SandboxEnded as ended:
                what = f"more than {READING} s" if ended.how == "timeout" else f"more than {limits.memory >> 20} MB of memory"
                raise notebook.NotebookError(f"Reading it takes {what}: clear the outputs and hand it in again.") from None
            except SandboxBroken:
                self.sandbox.stop()
                if attempt == 2:
                    raise
        if "unreadable" in reply:
            raise notebook.NotebookError(reply["unreadable"])
        answers = {name: notebook.Answer(**answer) for name, answer in reply["answers"].items()}
        return answers, [name for name, found in reply["others"].items() if found]


def _most_common(names: list[str]) -> int | None:
    """The notebook that most of these exercises belong to."""
    numbers = [checks.EXERCISES[name] for name in names]
    return max(sorted(set(numbers)), key=numbers.count, default=None)


def _problem(problems: Any) -> str:
    """The last problem that the worker reported while it ran the definitions."""
    try:
        last = problems[-1]
        where = ", ".join(f"{cell} line {line}" for cell, line in last["lines"][-1:])
        return notebook.plain_text(f"{str(last['error'])[:60]}: {str(last['text'])[:300]}" + (f" ({where})" if where else ""))
    except Exception:
        return "no reason was given"


def _left_out(problems: Any) -> str:
    """The statements that did not run here, in words. Told before the function has seen any input."""
    try:
        lines = [f"{p['place']} line {p['line']}, `{p['source']}` ({p['error']}: {str(p['text'])[:100]})" for p in problems]
        return notebook.plain_text("; ".join(lines)[:1000])
    except Exception:
        return ""


def _imports_slowly(source: str) -> bool:
    """Whether a statement imports something that takes seconds."""
    found = re.match(r"from\s+([\w.]+)|import\s+([\w., ]+)", source)
    modules = (found[1] or found[2]).split(",") if found else []
    return any(module.split() and module.split()[0].split(".")[0] not in FAST for module in modules)


def _defined(source: str) -> str:
    """The function that a statement defines, if it does."""
    found = re.match(r"(?:@[^\n]*\n)*def (\w+)\(", source)
    return found[1] if found else ""


def _group(text: str) -> str:
    """A message without what differs from student to student, to count alike ones together."""
    text = re.sub(r"^\w+: ", "", text.split("\n")[0])
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "#", text)[:160]
