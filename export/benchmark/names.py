"""The public names that have moved, from whichever checkout of ktransformer is on the path.

`compare_checkouts.py` runs the same programs on two checkouts; only this file tells them apart.
"""

from pathlib import Path

import ktransformer

# Not by an attempt to import: an editable install would find what the checkout lacks.
if Path(ktransformer.__file__).with_name("tasks").is_dir():
    from ktransformer.exporting import export_lite as export_lite
    from ktransformer.exporting import export_saved_model as export_saved_model
    from ktransformer.runtime.allocator import keep_freed_memory as keep_freed_memory
    from ktransformer.saving.run import load_run as load_run
    from ktransformer.tasks import Translator as Translator
else:  # Until commit 8663278.
    from ktransformer.allocator import keep_freed_memory as keep_freed_memory
    from ktransformer.lite import export_lite as export_lite
    from ktransformer.run import load_run as load_run

    from ktransformer.serving import Translator as Translator
    from ktransformer.serving import export_saved_model as export_saved_model
