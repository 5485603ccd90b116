"""Teachers behind one protocol: ``vllm`` (offline engine), ``openai`` (any compatible endpoint), ``transformers``."""
