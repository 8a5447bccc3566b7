"""Int8 quantization: math, files, exchange with quanto."""
