"""A process that has imported what commands use; commands and workers of tests are forked from it.

A new process would import it all again, which takes seconds.
"""

import multiprocessing

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "matplotlib.backends.backend_svg",
        "tests.faulty",
        "torch._dynamo",
        *(f"videoclip.cli.{name}" for name in ("cut", "export", "extract", "index", "prepare")),
        "videoclip.cli.pretrain",
        "videoclip.training.finetune",
        "videoclip.training.page",
        "videoclip.training.pretrain",
    ]
)
