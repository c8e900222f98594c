"""The settings that `train` chooses from the text, measured."""
