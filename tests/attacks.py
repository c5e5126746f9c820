"""What hostile and clumsy code does inside of an exercise, and the outcomes that it may get."""

import json

FORGED = json.dumps({"value": ["float", (1.0).hex()], "gradient": ["none"], "changed": {}, "global_random": False})

# What get_accuracy does before it answers 0.123 (which is wrong), and the outcomes that it may get.
STUCK = {
    "infinite loop": ("while True: pass", "timeout"),
    "sleep": ("import time; time.sleep(1000)", "timeout"),
    "signals ignored": (
        "import signal\n    for s in range(1, 30):\n        try: signal.signal(s, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass",
        "timeout",
    ),
    "alarms": (
        "import signal; signal.signal(signal.SIGXCPU, lambda *a: None); signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n    while True: pass",
        "timeout error",
    ),
    "lazy answer": ("return type('Lazy', (), {'__array__': lambda s, *a, **k: [None for _ in iter(int, 1)]})()", "timeout error"),
    "loop in bytecode that catches all": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "timeout",
    ),
    "thread left behind": (
        "import threading\n    def spin():\n        while True: pass\n    threading.Thread(target=spin, daemon=True).start()",
        "wrong timeout",
    ),
    "threads that wake all the time": (
        "import threading, time\n    def wake():\n        while True: time.sleep(1e-4)\n    for _ in range(20): threading.Thread(target=wake, daemon=True).start()\n    time.sleep(1000)",
        "timeout",
    ),
    "endless generator": ("return list(iter(int, 1))", "error timeout"),
    "stopped": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "wrong timeout",
    ),  # the first process of its namespace goes on
    "half an answer": ("import os, time; os.write(101, b'\\x20\\0\\0\\0'); time.sleep(1000)", "timeout"),
    "a pattern that never fits": ("import re; re.match('(a+)+b', 'a' * 99)", "timeout"),
}
CRASHES = {
    "recursion": ("return get_accuracy(y, pred, th)", "error"),
    "deep recursion": ("import sys; sys.setrecursionlimit(10**8); return get_accuracy(y, pred, th)", "error timeout"),
    "fork bomb": ("import os\n    while True: os.fork()", "error timeout"),
    "thread bomb": (
        "import threading, time\n    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()",
        "error timeout",
    ),
    "50 GiB": ("np.ones(50 << 27)", "error"),
    "50 GiB of zeros": ("bytearray(50 << 30)", "error"),
    "os._exit": ("import os; os._exit(0)", "error"),
    "sys.exit": ("import sys; sys.exit(0)", "error"),
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", "error"),
    "abort": ("import os; os.abort()", "error"),
    "kill the parent": ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)", "error"),
    "kill all": ("import os, signal; os.kill(-1, signal.SIGKILL)", "error"),
    "kill by ctypes": (
        "import ctypes, os\n    libc = ctypes.CDLL(None)\n    assert [libc.kill(pid, 9) for pid in (os.getppid(), -1, 1, 2)] == [-1] * 4\n    raise OSError",
        "error",
    ),
    "ptrace": (
        "import ctypes, os\n    libc = ctypes.CDLL(None)\n    libc.prctl(4, 1, 0, 0, 0)\n    assert libc.ptrace(16, os.getppid(), 0, 0) == -1\n    raise OSError",
        "error",
    ),
    "pidfd": ("import os; os.pidfd_open(os.getppid())", "error"),
    "more time": ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (999, 999)); raise ZeroDivisionError", "error"),
    "socket": ("import socket; socket.create_connection(('1.1.1.1', 53), 2)", "error"),
    "unix socket": ("import socket; socket.socket(socket.AF_UNIX)", "error"),
    "program": ("import subprocess; subprocess.run(['ls'], check=True)", "error"),
    "pinned": ("import os; os.sched_setaffinity(0, {0})", "error"),
    "shared memory": ("import mmap; mmap.mmap(-1, 1 << 20)", "error"),
    "shared zeros": ("import mmap; mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20)", "error"),
    "memory that grows down": ("import mmap; mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)", "error"),
    "memory file": ("import os; os.memfd_create('x')", "error"),
    "files in memory": (
        "import os\n    for i in range(300):\n        for place in ('/dev/shm', '/tmp', '.'):\n            with open(f'{place}/{i}', 'xb') as f: f.write(bytes(1 << 20))",
        "error",
    ),
    "rights, owner, times": (
        "import os\n    done = 0\n    for change in (lambda: os.chmod('.', 0o777), lambda: os.chown('.', -1, -1), lambda: os.utime('.', (0, 0)), lambda: os.setxattr('.', 'user.x', b'1')):\n        try: change(); done += 1\n        except PermissionError: pass\n    assert done\n",
        "error",
    ),
    "signals of its own": ("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)", "wrong error"),
    "close all files": ("import os; os.closerange(0, 1000)", "error"),
    "file flood": ("f = open('x', 'ab')\n    while True: f.write(bytes(1 << 20))", "error"),
    "claims success": ("raise AssertionError('all checks passed')", "error"),
    "exception without a text": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", "error"),
    "exception with half a character": ("raise ValueError('\\ud800 \\x00 \\x1b[2J')", "error"),
    "claims not to be written": ("raise NotImplementedError", "not attempted"),
    "lease on a library": ("import fcntl, os; fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 1024, 0)", "error"),
    "lock on a library": ("import fcntl, os; fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_EX)", "error"),
    "message queue": (
        "import ctypes\n    if ctypes.CDLL(None).mq_open(b'/left', 0o102, 0o600, None) == -1: raise OSError",
        "error",
    ),
    "watching files": ("import ctypes\n    if ctypes.CDLL(None).inotify_init1(0) == -1: raise OSError", "error"),
    "the kernel's messages": ("import ctypes\n    if ctypes.CDLL(None).klogctl(10, None, 0) == -1: raise OSError", "error"),
    "another file in place of the answers": (
        "import os; os.dup2(os.open('x', os.O_RDWR | os.O_CREAT), 101); os.dup2(101, 100)",
        "error timeout",
    ),
    "a chain of errors": (
        "e = ValueError('x')\n    for _ in range(2000):\n        try: raise ValueError('y') from e\n        except ValueError as new: e = new\n    raise e",
        "error",
    ),
    "an error that claims to be built in": (
        "raise type('secret 0.7', (Exception,), {'__module__': 'builtins', '__qualname__': 'KeyError'})('x')",
        "error",
    ),
    "many errors in one": ("raise ExceptionGroup('x' * 10**6, [ValueError(i) for i in range(10000)])", "error"),
    "an iterator's end": ("raise StopIteration(1.0)", "error"),
    "no import": ("import builtins; builtins.__import__ = None", "error wrong"),
    "modules gone": ("import sys; sys.modules.clear()", "error wrong"),
}
FORGERIES = {
    "forged messages": (
        f"import os, struct\n    m = {FORGED!r}.encode()\n    m = struct.pack('<II', len(m), 0) + m\n    for fd in range(200):\n        try: os.write(fd, m * 500)\n        except OSError: pass",
        "wrong error",
    ),
    "forged garbage": (
        "import os\n    for fd in range(200):\n        try: os.write(fd, os.urandom(4000))\n        except OSError: pass",
        "error wrong",
    ),
    "forged tree": (
        "import os, struct\n    m = b'{\"value\": ' + b'[\"tuple\",' * 90000 + b'1' + b']' * 90000 + b'}'\n    os.write(101, struct.pack('<II', len(m), 0) + m)",
        "error",
    ),
    "forged changes": (
        'import os, struct\n    m = b\'{"value": ["none"], "gradient": ["none"], "global_random": 0, "changed": {"99": ["none"]}}\'\n    os.write(101, struct.pack(\'<II\', len(m), 0) + m)',
        "error",
    ),
    "printed results": (
        'import sys\n    for out in (sys.stdout, sys.stderr): print(\'{"outcome": "right", "points": 8.0}\\nAll checks passed\', file=out)',
        "wrong",
    ),
    "flood": (
        "import os\n    try:\n        while True: os.write(101, bytes(1 << 20))\n    except OSError: pass",
        "error timeout wrong",
    ),
    "10 GiB of output": (
        "import os, sys\n    for i in range(10240): os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 10))",
        "wrong timeout",
    ),
    "always equal": (
        "return type('A', (), {'__eq__': lambda s, o: True, '__array__': lambda s, *a, **k: np.zeros(3), '__float__': lambda s: 1.0})()",
        "wrong",
    ),
    "equal array": (
        "return np.zeros(()).view(type('B', (np.ndarray,), {'__eq__': lambda s, o: np.True_, '__float__': lambda s: 1.0}))",
        "wrong",
    ),
    "float in disguise": ("return type('F', (float,), {'__eq__': lambda s, o: True, '__sub__': lambda s, o: 0.0})(0.123)", "wrong"),
    "array of objects": ("return np.array(type('O', (), {'__eq__': lambda s, o: True})(), dtype=object)", "wrong"),
    "nan with a payload": ("return np.array([0x7ff8dead0000beef], 'uint64').view('float64')[0]", "wrong"),
    "masked array": ("return np.ma.masked_all(())", "wrong error"),
    "record": ("return np.zeros((), [('a', 'f8')])", "wrong"),
    "huge array": ("return np.zeros(1 << 27, 'int8')", "wrong error"),
    "array of nothing": ("return np.zeros((0, 1 << 40))", "wrong error"),
    "nested list": ("x = []\n    for _ in range(100000): x = [x]\n    return x", "wrong error"),
    "list in itself": ("x = []; x.append(x); return x", "wrong"),
    "wide list": ("x = 1.0\n    for _ in range(12): x = [x] * 8\n    return x", "wrong error timeout"),
    "generator": ("return (v for v in y)", "wrong"),
    "huge number": ("return 10 ** 100000", "wrong"),
    "returns a function": ("return lambda *a: 1.0", "wrong"),
    "patched numpy": (
        "np.allclose = np.array_equal = np.isclose = lambda *a, **k: True; np.asarray = np.array = lambda *a, **k: 1.0",
        "wrong error",
    ),
    "patched json": (f"import json; json.dumps = lambda *a, **k: {FORGED!r}", "wrong error"),
    "patched reporter": ("import sys; sys.modules['inside.wire'].encode = lambda *a, **k: ['float', (1.0).hex()]", "wrong"),
    "patched worker": (
        "import sys, gc\n    for e in gc.get_objects():\n        if type(e).__name__ == 'Exercise': type(e).call = lambda *a: ({'value': ['float', (1.0).hex()], 'gradient': ['none'], 'changed': {}, 'global_random': False}, [])",
        "wrong",
    ),
    "two answers at once": (
        f"import os, struct\n    m = {FORGED!r}.encode()\n    os.write(101, (struct.pack('<II', len(m), 0) + m) * 2)",
        "wrong error",
    ),
    "number of an argument": (
        'import os, struct\n    m = b\'{"value": ["none"], "gradient": ["none"], "global_random": 0, "changed": {"-1": ["none"], "x": 1}}\'\n    os.write(101, struct.pack(\'<II\', len(m), 0) + m)',
        "error",
    ),
    "a table of everything": ("import pandas as pd; return pd.DataFrame({'a': ['x' * 50] * 10**5})", "wrong error"),
    "int in disguise": ("return type('I', (), {'__class__': property(lambda s: int), '__int__': lambda s: 1})()", "wrong error"),
    "number that is another each time": (
        "return type('N', (), {'__array__': lambda s, *a, **k: np.random.rand()})()",
        "wrong error",
    ),
    "changed inputs": ("y[:] = 1; pred[:] = 1; return 1.0", "wrong"),
    "trace": ("import sys; sys.settrace(lambda f, e, a: f.f_locals.update(value=1.0))", "wrong"),
    "at exit": ("import atexit, time; atexit.register(time.sleep, 1000)", "wrong"),
    "many files": ("for i in range(3000):\n        try: open(str(i), 'w').close()\n        except OSError: break", "wrong timeout"),
}
SECRETS = {
    "memory": (
        "import gc\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and {'expected', 'oracle', 'EXERCISES', '_METRICS', 'solution'} & set(map(str, o))]\n    return float(len(found) + 2)",
        "wrong",
    ),
    "call stack": (
        "import sys\n    f = sys._getframe()\n    while f:\n        assert not {'expected', 'formula', 'oracle', 'seed', 'mistakes'} & set(f.f_locals)\n        f = f.f_back",
        "wrong",
    ),
    "course modules": (
        "import importlib, sys\n    for name in ('public_tests', 'grading', 'lessons', 'tests', 'answers', 'course'):\n        try: importlib.import_module(name)\n        except ImportError: continue\n        if getattr(sys.modules[name], '__file__', None): return float('inf')",
        "wrong",
    ),
    "environment": (
        "import os\n    assert not {k for k in os.environ if 'SEED' in k or 'TOKEN' in k or 'PYTEST' in k or 'COURSE' in k or 'USER' in k}",
        "wrong",
    ),
    "command lines": (
        "import os\n    for place in ('/proc/self/environ', '/proc/1/environ', '/proc/1/cmdline', '/proc/self/mem', '/proc/self/maps', f'/proc/{os.getppid()}/mem'):\n        try: open(place, 'rb').read(1)\n        except OSError: continue\n        raise RuntimeError(place)",
        "wrong",
    ),
}
