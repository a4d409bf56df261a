"""What pack is made of: numbers merged, rounded and quantized by compiled kernels."""
