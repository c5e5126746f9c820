"""What a process does to itself before it runs a student's code: namespaces, limits, hidden files, a system call filter.

Each layer is of use alone. Namespaces hide the template process, files and signals of others; limits bound time and
memory; Landlock hides files where bubblewrap has not done so; the filter refuses new processes, programs, sockets and
signals to anybody else (Linux on x86-64 and ARM).
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
import sys

NEW_MOUNT, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SET_UID, NO_DEVICES, REMOUNT = 1, 2, 4, 32
PDEATHSIG, NO_NEW_PRIVS, SET_SECCOMP = 1, 38, 22

# System calls that are refused (EPERM): number on x86-64, on ARM 64 (None: it does not exist there).
REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "memfd_create": (319, 279),
    "setrlimit": (160, 164),
    "personality": (135, 92),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),  # many threads pinned to one core look as if the machine were busy
    "memfd_secret": (447, 447),
    "chmod": (90, None),  # what Landlock does not know: owner, rights, times and attributes of files
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "mq_open": (240, 180),  # message queues outlive a process where it has no namespace of its own
    "mq_unlink": (241, 181),
    "inotify_init": (253, None),  # tells the names of files in a folder that Landlock does not let anybody list
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "syslog": (103, 116),
    "kcmp": (312, 272),
    "flock": (73, 32),  # a lock or a lease on a library would make others wait for it
}
SHARED_OR_GROWING = 0x001 | 0x100  # MAP_SHARED, MAP_GROWSDOWN: memory that RLIMIT_DATA does not count
SPECIAL = {
    "mmap": (9, 222),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "clone": (56, 220),
    "clone3": (435, 435),
    "prlimit64": (302, 261),
    "fcntl": (72, 25),
}
LEASE = 1024  # F_SETLEASE: whoever opens the file waits
ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
EPERM, ENOSYS = 1, 38


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _map_user(uid: int, gid: int) -> None:
    """In a new namespace of users: be who one was."""
    for name, text in [("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def may_make_namespaces() -> int:
    """Become process 1 of namespaces in which this process may make others; the number of the file that leads back here.

    Raises
    ------
    OSError
        Where the system does not let an ordinary user do so.
    """
    uid, gid = os.getuid(), os.getgid()
    check(libc().unshare(NEW_USER | NEW_PID), "unshare")
    _map_user(uid, gid)
    if child := os.fork():
        os.waitpid(child, 0)
        os._exit(0)
    end_with_parent()
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def fork_alone(home: int) -> int:
    """os.fork, but the child sees no other process. `home`: from may_make_namespaces."""
    c = libc()
    check(c.unshare(NEW_PID), "unshare")
    child = os.fork()
    if child:
        check(c.setns(home, NEW_PID), "setns")
    return child


def private_namespaces(scratch: str) -> None:
    """Own users, mounts and IPC; `scratch` and /dev/shm new and empty, /proc gone. Raises OSError as may_make_namespaces."""
    c, uid, gid = libc(), os.getuid(), os.getgid()
    network = 0 if platform.machine() in ARCH else NEW_NET  # the filter refuses sockets, where there is one
    check(c.unshare(NEW_USER | NEW_MOUNT | NEW_IPC | network), "unshare")
    _map_user(uid, gid)
    for place in (scratch, "/dev/shm", "/proc"):
        check(c.mount(b"tmpfs", place.encode(), b"tmpfs", NO_SET_UID | NO_DEVICES, b"size=16m,nr_inodes=1000"), f"mount {place}")
    os.mkdir("/proc/self")
    os.symlink(sys.executable, "/proc/self/exe")  # all of /proc that TensorFlow asks for: which program it is
    with open("/proc/self/cmdline", "w") as file:
        file.write(f"{sys.executable}\0")
    check(c.mount(b"tmpfs", b"/proc", b"tmpfs", REMOUNT | READ_ONLY | NO_SET_UID | NO_DEVICES, None), "remount /proc")


def landlock() -> int:
    """The version of Landlock that this system has; below 1 it has none."""
    return libc().syscall(444, None, 0, 1) if sys.platform == "linux" else 0


def hide_files(readable: list[str], writable: list[str]) -> bool:
    """Landlock: from now on only these folders and files can be opened. False where the system does not know it."""
    c, version = libc(), landlock()
    if version < 1:
        return False
    read, files = 0b1101, 0b111 | (1 << 14 if version >= 3 else 0)  # execute, read file, read folder; what a file can be asked for
    every = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    ruleset = c.syscall(444, ctypes.create_string_buffer(struct.pack("Q", every), 8), 8, 0)
    if ruleset < 0:
        return False
    for place, rights in [*((place, read) for place in readable), *((place, every) for place in writable)]:
        try:
            fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights &= every if os.path.isdir(place) else files
        check(c.syscall(445, ruleset, 1, ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12), 0), f"landlock {place}")
        os.close(fd)
    done = c.syscall(446, ruleset, 0) == 0  # needs no_new_privs
    os.close(ruleset)
    return done


def end_with_parent() -> None:
    """This process is killed when the thread that started it ends."""
    libc().prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def drop_privileges() -> None:
    """No capabilities, none to be gained; dies with its parent."""
    end_with_parent()
    c = libc()
    check(c.prctl(NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    header, data = struct.pack("Ii", 0x20080522, 0), bytes(24)
    c.capset(ctypes.create_string_buffer(header), ctypes.create_string_buffer(data))


def limit(cpu: int, memory: int, tensorflow: bool, private: bool) -> None:
    """Limits of this process: seconds of CPU, bytes of memory, processes, files.

    TensorFlow reserves much more address space than it uses, so there only what is writable counts. Processes are
    counted for the user: the limit is set only where it is a `private` one (elsewhere the filter refuses new ones).
    """
    for kind, most in [
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, memory * (8 if tensorflow else 2)),
        (resource.RLIMIT_STACK, 8 << 20),  # also where the instructor's shell sets none
        *([(resource.RLIMIT_NPROC, 256)] if private else []),
        (resource.RLIMIT_FSIZE, 16 << 20),
        (resource.RLIMIT_NOFILE, 128),
        (resource.RLIMIT_CORE, 0),
    ]:
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows some limits by name only
            resource.setrlimit(kind, (most, most + 1 if kind == resource.RLIMIT_CPU and most != hard else most))


def filter_program(machine: str, pid: int) -> bytes | None:
    """The filter as BPF instructions; None on machines whose system call numbers are not known here."""
    if machine not in ARCH:
        return None
    column, arch = ARCH[machine]
    load = lambda offset: struct.pack("<HBBI", 0x20, 0, 0, offset)  # noqa: E731
    jump = lambda code, value, yes, no: struct.pack("<HBBI", code, yes, no, value)  # noqa: E731
    answer = lambda number: struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | number)  # noqa: E731
    allow = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    equal, above, bits = 0x15, 0x35, 0x45
    program = [load(4), jump(equal, arch, 1, 0), answer(EPERM), load(0), jump(above, 0x40000000, 0, 1), answer(EPERM)]
    for name in ("kill", "tgkill"):  # only to oneself
        program += [jump(equal, SPECIAL[name][column], 0, 4), load(16), jump(equal, pid, 0, 1), allow, answer(EPERM)]
    program += [
        jump(equal, SPECIAL["clone"][column], 0, 4),
        load(16),
        jump(bits, 0x10000, 0, 1),
        allow,
        answer(EPERM),
    ]  # threads only
    program += [jump(equal, SPECIAL["mmap"][column], 0, 4), load(40), jump(bits, SHARED_OR_GROWING, 0, 1), answer(EPERM), allow]
    program += [jump(equal, SPECIAL["fcntl"][column], 0, 4), load(24), jump(equal, LEASE, 0, 1), answer(EPERM), allow]
    program += [jump(equal, SPECIAL["clone3"][column], 0, 1), answer(ENOSYS)]  # the C library then takes clone
    program += [
        jump(equal, SPECIAL["prlimit64"][column], 0, 6),
        load(32),
        jump(equal, 0, 0, 3),
        load(36),
        jump(equal, 0, 0, 1),
        allow,
        answer(EPERM),
    ]
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            program += [jump(equal, numbers[column], 0, 1), answer(EPERM)]
    return b"".join([*program, allow])


def filter_system_calls() -> bool:
    """Install the filter for this process; False where there is none for this machine."""
    program = filter_program(platform.machine(), os.getpid())
    if program is None or platform.system() != "Linux":
        return False
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    return libc().prctl(SET_SECCOMP, 2, head, 0, 0) == 0
