"""A Ctrl-C reaches Python whatever the networks' runtime did to the process."""

import subprocess
import sys

PROGRAM = """
import gc, os, signal
import numpy as np
from semhier_ros import Codec
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("road", "imagenet", "road"):
    codec = Codec.load(name, "cpu", threads=1)
    decoder = codec.decoder((320, 180))
    for block in codec.encode(np.zeros((180, 320, 3), np.uint8)):
        decoder.push(block)
    decoder.picture(0)
    del codec, decoder
    gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    print("nothing happened")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_after_codecs_came_and_went():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr[-500:]
