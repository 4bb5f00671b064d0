"""Training by general tools: one resumable loop, adapters for policies, PRMs from rollouts. ``python -m tts.train`` is its command."""
