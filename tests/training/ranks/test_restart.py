"""A command that begins again in the place of its process."""

import subprocess
import sys

#: Leaves a process that has ended, and one that ends with the program, since its other end of a pipe is closed.
PROGRAM = r"""
import subprocess
import sys
import time

from easyvideor1.training.ranks.restart import Restart, children

#: The system cuts a name at 15 bytes, here within a character.
NAMED = "open('/proc/self/comm', 'wb').write('fourteen bytes\u00e9'.encode()); print(flush=True); input()"

restart = Restart.of_this_process(2)
if not restart.done:
    ended = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    ended.stdout.read()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    reading = subprocess.Popen([sys.executable, "-c", NAMED], **pipes)
    reading.stdout.readline()
    restart.begin("rank 1 ended; the rest is told elsewhere")
while children():
    time.sleep(0.01)
print(restart.done, restart.left, restart.cause)
"""


def test_processes_of_the_program_before_do_not_stay() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "1 True rank 1 ended"
