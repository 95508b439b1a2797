"""The reference's server: a plain blocking ROUTER with msgpack. Prints its endpoint, answers until it is killed."""

from __future__ import annotations

import msgpack
import zmq

from .measure import tell


def main() -> None:
    """Answer `check_password` with True and `echo` with its data."""
    router = zmq.Context().socket(zmq.ROUTER)
    tell({"endpoint": f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"})
    while True:
        identity, call_id, body = router.recv_multipart()
        _, procedure, arguments = msgpack.unpackb(body)
        result = arguments["data"] if procedure == "echo" else arguments["password"] == "secret"
        router.send_multipart([identity, call_id, msgpack.packb(result)])


if __name__ == "__main__":
    main()
