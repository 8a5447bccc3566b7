"""What the nodes wrap: math over tensors, encoders, storage and the bridge to the host."""
