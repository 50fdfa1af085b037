"""What a bed of a registry is: how to put a model on its real server, and what the suites have to know of it."""

import hashlib


def digest_of(tree):
    """A package's digest (src/package/package.h): what a tree is, wherever it came from."""
    lines = (f"{hashlib.sha256(data).hexdigest()} {len(data)} {path}\n".encode()
             for path, data in sorted(tree.items(), key=lambda item: item[0].encode()))
    return hashlib.sha256(b"".join(lines)).hexdigest()


class Bed:
    name = None
    root = None  # a folder that model URIs may point into
    address = None  # (host, port) of the server
    knows_identity = True  # it tells what would be another if the bytes were
    settles_s = 0  # how long it does not tell that of a file that has just changed
    pins = True  # it has names that cannot change

    def publish(self, model, files):
        """Puts exactly these files (path to bytes) on the server as that model, in the place of what was there."""
        raise NotImplementedError

    def uri(self, model, address):
        """Its URI, where the server is reached at `address`."""
        raise NotImplementedError

    def conf(self, address):
        """The file of the setting `registries`."""
        raise NotImplementedError

    def environment(self):
        return {}

    def secrets(self):
        """What must be seen nowhere."""
        return []

    def missing(self, model):
        """What an error about a model that is not there names it by."""
        return model

    def tree_of(self, files):
        return digest_of(files)
