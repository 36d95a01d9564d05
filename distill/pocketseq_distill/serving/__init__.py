"""A checkpoint behind HTTP, with the API of OpenAI's models."""
