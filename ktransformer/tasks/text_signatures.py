"""The signatures that give the translations of texts alone."""

TEXT_SIGNATURES = ("serving_default", "beam")
