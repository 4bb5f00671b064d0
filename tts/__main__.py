"""``python -m tts``."""

from tts.study.cli import main

if __name__ == "__main__":
    main()
