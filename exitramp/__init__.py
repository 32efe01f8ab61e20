"""exitramp: leave a vector store or a model vendor, and prove that you can.

Only names are bound here; nothing heavy is imported. `import exitramp` loads no SDK, no adapter, and neither
pyarrow, numpy nor httpx.
"""

from exitramp.errors import ExitCode, ExitrampError

__all__ = ["ExitCode", "ExitrampError", "__version__"]
__version__ = "0.1.0"
