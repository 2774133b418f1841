"""What a rule of early stopping has seen and the best snapshots, on disk."""

import json
import os
import re

from keras_kicks.callbacks.training_snapshot import TrainingSnapshot, write_whole

STATE = "state.json"
SNAPSHOT = re.compile(r"best-(\d+)\.npz")


class StoppingDirectory:
    """A directory that holds the state of a callback while it trains, and best snapshots by their step.

    Args:
        folder: The directory; it is made with the first record.
    """

    def __init__(self, folder):
        self._folder = os.fspath(folder)

    def load(self):
        """Return the state of training that was interrupted, or None."""
        path = os.path.join(self._folder, STATE)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def save(self, state):
        """Write the state of training."""
        os.makedirs(self._folder, exist_ok=True)
        text = json.dumps(state).encode()
        write_whole(os.path.join(self._folder, STATE), lambda file: file.write(text))

    def snapshot(self, step):
        """Return the snapshot of a step, or None."""
        path = self._path(step)
        return TrainingSnapshot.load(path) if os.path.exists(path) else None

    def keep(self, step, snapshot):
        """Write the snapshot of a step."""
        os.makedirs(self._folder, exist_ok=True)
        snapshot.save(self._path(step))

    def prune(self, steps):
        """Remove all snapshots but those of some steps."""
        for name in os.listdir(self._folder) if os.path.isdir(self._folder) else ():
            found = SNAPSHOT.fullmatch(name)
            if found and int(found[1]) not in steps:
                os.remove(os.path.join(self._folder, name))

    def end(self):
        """Remove the state, since training has come to its end."""
        path = os.path.join(self._folder, STATE)
        if os.path.exists(path):
            os.remove(path)

    def _path(self, step):
        return os.path.join(self._folder, f"best-{step}.npz")
