"""Start the whole shop: `python run.py [PORT]`. Ctrl-C ends it."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PORT = sys.argv[1] if len(sys.argv) > 1 else "8000"
WORKER = [sys.executable, "-m", "lightbus", "run"]


def main():
    processes = [
        subprocess.Popen([sys.executable, "web.py", PORT], cwd=HERE / "shop"),
        subprocess.Popen(WORKER, cwd=HERE / "dashboard"),
        subprocess.Popen(WORKER, cwd=HERE / "images"),
        subprocess.Popen(WORKER, cwd=HERE / "images"),
    ]
    print(f"The shop is at http://127.0.0.1:{PORT}/, its statistics at /statistics", flush=True)
    try:
        processes[0].wait()
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main()
