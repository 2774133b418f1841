"""What TensorBoard finds in a directory."""

import os


def read(folder):
    """Return [(step, value)] by tag: floats, texts, and (width, height, PNG files...) of images."""
    return {tag: events for tag, (_, events) in _tags(folder).items()}


def kinds(folder):
    """Return the plugin that shows a tag: "scalars", "histograms", "text" or "images"."""
    return {tag: plugin for tag, (plugin, _) in _tags(folder).items()}


def _tags(folder):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    found = {}
    for name in sorted(os.listdir(folder)):
        for event in EventFileLoader(os.path.join(folder, name)).Load():
            for value in event.summary.value:
                array = tensor_util.make_ndarray(value.tensor)
                plugin = value.metadata.plugin_data.plugin_name
                first, events = found.setdefault(value.tag, (plugin, []))
                # TensorBoard shows a tag as what it was first, and nothing else that has its name.
                assert plugin in ("", first), f"{value.tag} is {first} and {plugin}"
                events.append((event.step, array.item() if array.size == 1 else array))
    return found
