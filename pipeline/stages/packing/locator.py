"""Where numba keeps compiled kernels: one folder for every clone, as their source decides it alone.

numba itself puts the path of a source file into the name. It imports this module by name, after
itself (config.CACHE_LOCATOR_CLASSES).
"""

from __future__ import annotations

from numba.core.caching import UserProvidedCacheLocator


class Locator(UserProvidedCacheLocator):  # type: ignore[misc]
    """The folder NUMBA_CACHE_DIR names, without a subfolder by path."""

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """The same for all files: names of kernels differ."""
        return "kernels"
