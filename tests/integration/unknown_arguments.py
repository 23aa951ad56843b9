"""A class of the new code, which an old worker's process does not have."""


class Parcel:
    """Travels in pickled arguments."""
