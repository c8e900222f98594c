"""The .tflite: written, checked and opened again."""
