"""A vision Transformer, trained to classify images."""
