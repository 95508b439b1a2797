"""Two web processes, each of which is a worker of the bus, too."""

from bus import bus

bind = "127.0.0.1:8000"
workers = 2
preload_app = True


def post_fork(server, worker):
    # Not in web.py: what starts there runs in the process that looks after these, and is not copied by a fork.
    bus.client.start_in_background()


def worker_exit(server, worker):
    bus.client.close()  # running calls are finished, and callers told
