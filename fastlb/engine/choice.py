"""Which engine runs, and why.

The pure engine is a fallback for platforms where the native one is not there at all. A native
engine that is there and does not import is a broken installation, and is never papered over.
"""

import importlib
import importlib.util
import sys
from dataclasses import dataclass

from fastlb.model.config import EngineChoice
from fastlb.model.contract import Engine
from fastlb.model.errors import EngineUnavailableError

_NATIVE_MODULE = "fastlb.native.engine"


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine class that imported, its name, and why it was chosen in a few words."""

    engine_class: type[Engine]
    name: str
    reason: str


def native_missing_reason() -> str | None:
    """Why the native engine cannot be here, or None if its extension module is installed.

    None does not promise that it imports: `load` finds that out.
    """
    if sys.platform != "linux":
        return f"the native engine needs Linux, this is {sys.platform}"
    if importlib.util.find_spec(_NATIVE_MODULE) is None:
        return "the native engine is not built for this Python"
    return None


def load(choice: EngineChoice) -> LoadedEngine:
    """Import the engine that the user chose; AUTO takes the native one wherever it is built.

    Raises: EngineUnavailableError if the native engine was asked for and is not there;
            ImportError as it is if an engine is there and does not import.
    """
    if choice is EngineChoice.PURE:
        return _pure("asked for")
    missing = native_missing_reason()
    if missing is None:
        return _native("asked for" if choice is EngineChoice.NATIVE else "built for this platform")
    if choice is EngineChoice.NATIVE:
        raise EngineUnavailableError(
            f"--engine native: {missing}; install a wheel for Linux or build with a C compiler, "
            "or use --engine pure"
        )
    return _pure(missing)


def _native(reason: str) -> LoadedEngine:
    # A compiled module has no source for a type checker to follow, hence the import by name.
    engine_class: type[Engine] = importlib.import_module(_NATIVE_MODULE).NativeEngine
    return LoadedEngine(engine_class, engine_class.name, reason)


def _pure(reason: str) -> LoadedEngine:
    from fastlb.pure.engine import PureEngine  # imported late: a native run never pays for it

    return LoadedEngine(PureEngine, PureEngine.name, reason)
