"""Settings of the process: Keras backend, memory allocator, logging of the libraries."""
