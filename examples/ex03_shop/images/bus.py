"""Makes small pictures of large ones. Two of these share the work: each picture goes to one of them."""

import os
from pathlib import Path

from ppm import read, scaled, write

import lightbus
from lightbus import OnError

bus = lightbus.create(service_name="images")
THUMBNAILS = Path(os.environ.get("THUMBNAILS", "thumbnails"))
WIDTH = 16


@bus.client.on_start()
def on_start():
    THUMBNAILS.mkdir(exist_ok=True)
    # A picture that cannot be read is tried again, and then becomes a dead letter: it does not stop the others.
    bus.store.image_uploaded.listen(resize, listener_name="resize", on_error=OnError.RETRY, max_deliveries=2)


def resize(event_message, image_id, picture):
    small = scaled(read(picture), WIDTH)
    target = THUMBNAILS / f"{image_id}.ppm"
    # Written under another name first: done twice, after a crash, it comes to the same.
    part = target.with_suffix(".part")
    part.write_bytes(write(small))
    part.rename(target)
    print(f"picture {image_id} is {len(small[0])} x {len(small)} now", flush=True)
