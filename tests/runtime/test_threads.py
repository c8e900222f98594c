import subprocess
import sys

PROGRAM = """
import tensorflow as tf

from ktransformer.runtime.threads import set_threads

threading = tf.config.threading
for threads, batches in [(None, 2), (1, 3), (2, 1), (2, 2)]:
    set_threads(threads, batches=batches)
    print(
        threading.get_intra_op_parallelism_threads(),
        threading.get_inter_op_parallelism_threads(),
    )
"""


def test_each_batch_has_threads_of_its_own():
    """In a process of its own: once TensorFlow has run, its threads stay."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["0 0", "1 3", "2 2", "2 4"]
