"""``python -m tts.train``; the commands are in :mod:`tts.study.train_cli`."""

from tts.study.terminal import guarded
from tts.study.train_cli import app

if __name__ == "__main__":
    guarded(app)
