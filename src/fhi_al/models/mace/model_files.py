"""Files of MACE models as models that predict, whatever their network.

Owns which backend runs a model that no settings describe.  Trains nothing, writes nothing.
"""

from __future__ import annotations

from pathlib import Path

from fhi_al.models.file_models import FileModel
from fhi_al.models.interface import InferenceWeights
from fhi_al.models.mace.backend import MaceBackend
from fhi_al.models.mace.foundation import foundation
from fhi_al.models.torch_backend import DTYPES
from fhi_al.models.torch_model import TorchInference
from fhi_al.settings.mace import MaceSettings


class MaceFiles:
    """Reads files of MACE models for one device and precision.

    Parameters
    ----------
    device : str
    dtype : str
        ``float32`` or ``float64``.
    """

    def __init__(self, device: str, dtype: str) -> None:
        self._device = device
        self._dtype = dtype
        self._backends: dict[tuple[tuple[int, ...], float], MaceBackend] = {}

    def model(self, path: Path, head: str | None = None) -> FileModel:
        """The model of a file.

        A ``.model`` file is a pickle and runs code when read: only files that are trusted.

        Parameters
        ----------
        path : Path
            A ``.model`` file that MACE or FHI_AL wrote, or weights of
            :mod:`fhi_al.models.mace.weights_file`.
        head : str, optional
            Of a model that has several.

        Raises
        ------
        ValueError
            If it cannot be used; says what was expected and how to fix it.
        """
        found = foundation(str(path), head)
        backend = self._backend(found.elements, float(found.model.r_max))
        module = backend.to_runtime_model(found.copied_model())
        module = module.to(backend.device).to(DTYPES[self._dtype])
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        model = TorchInference(backend, module, DTYPES[self._dtype])
        model.load(InferenceWeights({}, found.constants))
        return FileModel(path, backend, model)

    def _backend(self, elements: tuple[int, ...], r_max: float) -> MaceBackend:
        """What makes batches for a model and runs it: the settings of its network do not matter."""
        key = elements, r_max
        if key not in self._backends:
            settings = MaceSettings.model_validate(
                {
                    "GENERAL": {"default_dtype": self._dtype},
                    "ARCHITECTURE": {"r_max": r_max},
                    "MISC": {"device": self._device, "enable_cueq": False},
                }
            )
            self._backends[key] = MaceBackend(settings, elements)
        return self._backends[key]
