"""Rules of the search that a format cannot express and that are left out of a conversion."""

import logging

from ktransformer.tasks.translator import Translator

_log = logging.getLogger(__name__)


def without_loop_rule(translator: Translator, form: str) -> Translator:
    """Returns a translator without `max_repeats`, and warns if it had it.

    Args:
        translator: The translator.
        form: The name of the format.
    """
    copies = translator.decoding.max_repeats
    if not copies:
        return translator
    _log.warning("%s has no max_repeats: without max_repeats=%s a text may loop.", form, copies)
    return translator.with_settings(max_repeats=0)
