"""Models: names, folders and the Hub; safetensors only, never remote code."""
