"""The members of a training rank: an ensemble like that of rank 0, of which some are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fhi_al.core.label import Label
from fhi_al.core.structure import Array
from fhi_al.models.devices import training_device
from fhi_al.models.ensemble import Ensemble, device_problem
from fhi_al.models.predictor import LocalPredictor
from fhi_al.models.remote.messages import PredictionOrder, TrainingOrder, TrainingSetup
from fhi_al.models.remote.model_copies import ModelCopies
from fhi_al.models.state_bytes import as_arrays, as_tensors
from fhi_al.models.training import EpochRecord, SerialTrainingPool


class Replica:
    """Members of one training rank, with their labels.

    Parameters
    ----------
    setup : TrainingSetup

    Raises
    ------
    ValueError
        If the device is not there.
    """

    def __init__(self, setup: TrainingSetup) -> None:
        n_gpus = torch.cuda.device_count()
        device = training_device(setup.settings.misc.device, setup.local_index, n_gpus)
        problem = device_problem(device)
        if problem is not None:
            raise ValueError(f"mace_settings.yaml: MISC.device: {problem}")
        self._ensemble = Ensemble(setup.settings, setup.elements, setup.seeds, device)
        for index in setup.members:
            self._ensemble.members[index].build(with_weights=False)  # states come with the orders
        self._pool = SerialTrainingPool(self._ensemble, setup.valid_skip)
        self._labels: dict[str, Label] = {}
        self._copies: dict[str, ModelCopies] = {}  # by precision

    def predict(self, order: PredictionOrder) -> tuple[tuple[tuple[float, Array], ...], ...]:
        """Carry out an order, see :class:`fhi_al.models.remote.messages.PredictionAnswer`."""
        factory = self._ensemble.factory
        if order.dtype not in self._copies:
            self._copies[order.dtype] = ModelCopies(factory, getattr(torch, order.dtype))
        copies = self._copies[order.dtype]
        for member, weights in order.weights.items():
            copies.load(member, weights)
        predictor = LocalPredictor(factory, copies, copies.dtype, len(self._ensemble))
        return tuple(
            tuple(
                (float(found.energies[0]), found.forces[0])
                for found in predictor.predict(
                    order.geometries[task.first : task.last], [task.member]
                )
            )
            for task in order.tasks
        )

    def train(
        self, order: TrainingOrder, given_up: Callable[[], bool]
    ) -> tuple[tuple[EpochRecord, ...], dict[int, dict[str, Any]]]:
        """Carry out an order.

        Parameters
        ----------
        order : TrainingOrder
        given_up : callable
            Asked after every batch; True ends the visit.

        Returns
        -------
        records : tuple of EpochRecord
        states : dict
            Member -> state with arrays.  Both are empty if the visit was given up.
        """
        self._labels.update({label.key: label for label in order.labels})
        for one in order.members:
            member = self._ensemble.members[one.member]
            member.end_round()  # of a visit that was given up: a state is in the order then
            member.add_training([self._labels[key] for key in one.training])
            member.add_validation([self._labels[key] for key in one.validation])
            if one.state is not None:
                member.load_state(as_tensors(one.state))
        indices = [one.member for one in order.members]
        training_round = self._pool.begin(indices, order.n_epochs)
        while training_round.advance():
            if given_up():
                training_round.give_up()
                return (), {}
        states = {index: as_arrays(self._ensemble.members[index].state()) for index in indices}
        return tuple(training_round.finish()), states
