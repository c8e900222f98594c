"""The symbols that stand for copied spans, and the kinds of spans that are copied."""

SYMBOLS = tuple(f"<c{i}>" for i in range(10))
"""What stands for the spans of a text, in order of appearance; the eleventh is the first again."""
COPIED_BY_DEFAULT = ("tags", "placeholders", "urls", "emails", "code", "emoji")
"""What a training with symbols for spans makes the model copy; `unknown` comes on top."""
