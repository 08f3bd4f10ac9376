# SPDX-License-Identifier: BSD-3-Clause
"""Stands between a VMM and the switch, passes their vhost-user messages on one by one with their
descriptors, and notes when each came: which of the two took its time, and where exactly in the
handshake something is to happen.

    with Relay(directory / "relay.sock", to=directory / "vm1.sock") as relay:
        ...  # a VMM connects to relay.sock; or the switch does, and the VMM listens at `to`
        print(relay.events)
"""
import collections
import os
import select
import socket
import struct
import threading
import time

from frontend import REPLY, Msg

FDS_MAX = 8  # descriptors of one message: those of a memory table

# name: "connect", "close", or a message ("GET_FEATURES"); reply: an answer of the switch
Event = collections.namedtuple("Event", "time name reply")


class Relay(threading.Thread):
    """Serves one connection after another until the end. `each` is called with every event, before
    the message is passed on; from it the test may kill somebody."""

    def __init__(self, path, to, each=None):
        super().__init__()
        self.to, self.each = str(to), each
        self.events = []
        self.peer = None  # the process that connected last
        self.ended, self.error = threading.Event(), None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join(10)
        self.listener.close()
        if self.error:
            raise self.error

    def run(self):
        try:
            while not self.ended.is_set():
                if select.select([self.listener], [], [], 0.05)[0]:
                    self.serve(self.listener.accept()[0])
        except BaseException as error:
            self.error = error

    def note(self, name, reply=False):
        self.events.append(Event(time.monotonic(), name, reply))
        if self.each:
            self.each(self.events[-1])

    def serve(self, caller):
        self.peer = struct.unpack("=iII", caller.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.note("connect")
        with caller, socket.socket(socket.AF_UNIX) as called:
            try:
                called.connect(self.to)
                ends = {caller: called, called: caller}
                while not self.ended.is_set():
                    for end in select.select(list(ends), [], [], 0.05)[0]:
                        if not self.forward(end, ends[end]):
                            return
            except (ConnectionError, FileNotFoundError):  # either side has been killed
                pass
            finally:
                self.note("close")

    def forward(self, source, to):
        """Passes one message on; false at the end of the connection."""
        head, fds, _, _ = socket.recv_fds(source, 12, FDS_MAX)
        try:
            if not head:
                return False
            head = complete(source, 12, head)
            request, flags, size = struct.unpack("=III", head)
            message = complete(source, 12 + size, head)
            name = Msg(request).name if request in iter(Msg) else str(request)
            self.note(name, bool(flags & REPLY))
            socket.send_fds(to, [message], fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True


def complete(source, size, data):
    """Reads on until `data` has `size` bytes."""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise ConnectionResetError("half a message")
        data += part
    return data
