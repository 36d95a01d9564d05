"""Student to bundle: quantize, export, verify."""
