"""Small sequence-to-sequence models on the device, with a calibrated confidence and a cloud to ask."""
