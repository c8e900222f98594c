"""The allowed values of settings that take a word."""

CHOICES = {
    "activation": ("relu", "gelu", "silu", "any of keras.activations"),
    "feed_forward": ("plain", "swiglu", "geglu"),
    "norm": ("layer", "rms"),
    "positions": (
        "sinusoidal",
        "sinusoidal_interleaved",
        "learned",
        "rotary",
        "alibi",
        "relative",
        "none",
    ),
    "dtype": ("float32", "mixed_float16", "mixed_bfloat16"),
    "optimizer": ("adam", "muon"),
    "schedule": ("inverse_square_root", "cosine"),
    "copy": ("tags", "placeholders", "urls", "emails", "code", "emoji", "unknown", "numbers"),
}
"""For each setting that is one of several words, those words, for `--help`."""
