"""``python -m tts.train``; the commands are in :mod:`tts.study.train_cli`."""

from tts.study.train_cli import main

if __name__ == "__main__":
    main()
