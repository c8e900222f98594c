"""The ids that every tokenizer here gives to the same four tokens."""

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3
