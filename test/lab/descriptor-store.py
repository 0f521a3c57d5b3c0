#!/usr/bin/env python3
"""As systemd does with Type=notify, Restart=always and FileDescriptorStoreMax=: starts a program, keeps the descriptors that
it sends to NOTIFY_SOCKET, and when it dies starts it again with them, from 3 on.

    descriptor-store.py [--restarts N] [--socket PATH|@NAME] PROGRAM [ARGUMENT...]

Prints a line of JSON for each event:

    {"event": "started", "pid": 7, "descriptors": ["guard"]}
    {"event": "told", "text": "READY=1"}
    {"event": "stored", "name": "guard"}
    {"event": "removed", "name": "guard"}
    {"event": "ended", "pid": 7, "status": -9}

SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 are passed on; after the first two it is not started again. The status is the
program's at last. Standard output and error of the program are its own (standard output: ours, so lines mix).
"""
import argparse
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile


class Service:
    def __init__(self, command, address, restarts):
        self.command, self.address, self.restarts = command, address, restarts
        self.stored = []  # (name, descriptor), in the order they came
        self.pid = None
        self.stopping = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def run(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self.pass_on)
        while True:
            status = self.live()
            if self.stopping or self.restarts == 0:
                return status
            if self.restarts is not None:
                self.restarts -= 1

    def live(self):
        # A signal between the fork and the assignment would be lost.
        signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self.pid = os.fork()
        if self.pid == 0:
            self.become_the_program(signals)
        tell("started", pid=self.pid, descriptors=[name for name, _ in self.stored])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        death = os.pidfd_open(self.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(death, selectors.EVENT_READ)
            while death not in [key.fd for key, _ in selector.select()]:
                self.listen()
        self.listen()  # what it said last
        os.close(death)
        pid, self.pid = self.pid, None
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        tell("ended", pid=pid, status=status)
        return status

    def become_the_program(self, signals):
        try:
            for number in signals:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            environment = {**os.environ, "NOTIFY_SOCKET": self.address}
            for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
                environment.pop(name, None)
            if self.stored:
                # They are kept above 100, so none is overwritten before its turn.
                for at, (_, descriptor) in enumerate(self.stored):
                    os.dup2(descriptor, 3 + at, inheritable=True)
                environment["LISTEN_PID"] = str(os.getpid())
                environment["LISTEN_FDS"] = str(len(self.stored))
                environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in self.stored)
            os.execvpe(self.command[0], self.command, environment)
        except OSError as error:
            print(f"{self.command[0]}: {error}", file=sys.stderr)
        finally:
            os._exit(127)

    def listen(self):
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 16)
            except BlockingIOError:
                return
            self.hear(data.decode(errors="replace"), descriptors)

    def hear(self, text, descriptors):
        said = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
        name = said.get("FDNAME", "stored")
        if said.get("FDSTORE") == "1":
            for descriptor in descriptors:
                self.store(name, descriptor)
        elif said.get("FDSTOREREMOVE") == "1":
            for _, descriptor in [one for one in self.stored if one[0] == name]:
                os.close(descriptor)
            self.stored = [one for one in self.stored if one[0] != name]
            tell("removed", name=name)
        else:
            tell("told", text=text)
        for descriptor in descriptors:
            os.close(descriptor)

    def store(self, name, descriptor):
        # The same socket twice is kept once, as systemd does.
        if not any(os.path.sameopenfile(descriptor, kept) for _, kept in self.stored):
            self.stored.append((name, fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)))
        tell("stored", name=name)

    def pass_on(self, number, _):
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stopping = True
        if self.pid is not None:
            os.kill(self.pid, number)


def tell(event, **what):
    print(json.dumps({"event": event, **what}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=None, help="how often it is started again [default: for ever]")
    parser.add_argument("--socket", default=None, help="NOTIFY_SOCKET [default: a path that nobody else has]")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="descriptor-store-")
    try:
        command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
        status = Service(command, arguments.socket or os.path.join(folder, "notify"), arguments.restarts).run()
    finally:
        shutil.rmtree(folder)
    sys.exit(status if status >= 0 else 128 - status)


main()
