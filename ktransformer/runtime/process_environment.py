"""The variables of `keras.distribution.initialize`, which name the processes of a training."""

COUNT, INDEX = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"
ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"


def process_environment(index: int, count: int, address: str) -> dict[str, str]:
    """Returns the variables that name the processes of a training to one of them.

    Args:
        index: The number of the process, from 0.
        count: The number of all processes.
        address: The `host:port` at which the first process is to wait for the others.
    """
    return {INDEX: str(index), COUNT: str(count), ADDRESSES: address}
