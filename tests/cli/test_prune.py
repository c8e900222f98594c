"""`ktransformer prune`."""

from tests.run_command import command, limit_file_size


def test_a_disk_that_fills_up_leaves_the_old_run_whole(run_copy, data_folder):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    result = command(
        *("prune", run_copy, "--corpus", data_folder / "test.source", "--min-count", 2),
        *("--output", run_copy, "--overwrite"),
        preexec_fn=limit_file_size,  # Writing past it fails as on a full disk.
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"ktransformer: ")
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
    assert not list(run_copy.parent.glob(".run*"))
