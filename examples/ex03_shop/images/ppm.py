"""Just enough of the portable pixmap format (P6, 8 bits) to have something to resize without a library."""


def read(data):
    """Return the rows of a picture, each a list of (red, green, blue)."""
    magic, width, height, most, pixels = data.split(maxsplit=4)
    if magic != b"P6" or int(most) != 255 or len(pixels) < 3 * int(width) * int(height):
        raise ValueError("this is no picture in the format P6 with 8 bits")
    width, height = int(width), int(height)
    colours = [tuple(pixels[n : n + 3]) for n in range(0, 3 * width * height, 3)]
    return [colours[row * width : (row + 1) * width] for row in range(height)]


def scaled(rows, width):
    """Return a picture of this width: each of its pixels is the nearest one of the larger picture."""
    step = max(1, len(rows[0]) // width)
    return [row[::step] for row in rows[::step]]


def write(rows):
    """Return the bytes of a picture."""
    head = b"P6 %d %d 255\n" % (len(rows[0]), len(rows))
    return head + b"".join(bytes(colour) for row in rows for colour in row)
