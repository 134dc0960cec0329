"""MACE's own foundation models: where its cache keeps them, whether they can be fetched."""

from __future__ import annotations

import multiprocessing
import queue
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mace.calculators import MACECalculator, mace_mp
from mace.calculators.foundations_models import mace_mp_urls
from mace.tools.utils import get_cache_dir

from fhi_al.models.mace_adapter import quiet_mace
from fhi_al.models.mace_adapter.model import read_exported
