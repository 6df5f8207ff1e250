"""Identity: card, peer ID, key file; pure bytes and text.

Owns the codecs of PROTOCOL section 1. Knows nothing of paths, modes or terminals. Every refusal is a `ConfigError`
whose detail says what is wrong with the text.
"""
