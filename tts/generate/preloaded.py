"""What the fork server imports, once for all processes that it forks (:mod:`tts.generate.local_pool`); to be imported nowhere else."""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback while it imports; it ignores it afterwards
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

import tts.generate.worker_process  # noqa: E402
import tts.policies.transformers  # noqa: E402
import tts.reward_models.base  # noqa: E402, F401

gc.collect()
gc.freeze()  # a collection that looked at these objects would copy the memory that processes share
