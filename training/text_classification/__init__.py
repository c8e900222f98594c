"""Fine-tunes a published text encoder to classify captions, against random weights."""
