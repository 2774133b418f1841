"""One question a file: a component beside its peers, in one run."""
