"""What must be in a collection, by sequence number.

Each document has one writer, which says what it is about to write (begin) and what became of it. What was acknowledged
has its number. What was not answered is pending until its writer has learnt, by reading, whether it happened; where the
reading does not tell its number (a delete), the number lies between two that are known. So for every document and every
number s there is a set of versions that a search of exactly s may show: one version where all is known, more where
something was in flight. None stands for "not there".
"""

import threading
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Write:
    document: str
    version: int | None  # None: a delete
    low: int  # its number is at least this
    high: int | None = None  # and at most this; None: not known yet
    settled: bool = False  # it happened


class Document:
    __slots__ = ("owner", "writes", "pending")

    def __init__(self, owner):
        self.owner, self.writes, self.pending = owner, [], []

    def at(self, seq):
        """The versions that may be seen at seq."""
        sure, seen = None, []
        for write in self.writes:
            if write.high is not None and write.high <= seq:
                sure, seen = write.version, []
            elif write.low <= seq:
                seen.append(write.version)
        return {sure, *seen, *(write.version for write in self.pending if write.low <= seq)}

    def now(self, since=0):
        """The versions that a read of the log may show that was begun when `since` writes had happened."""
        begin = self.writes[since - 1 :] if since else [None, *self.writes]
        return {write.version if write else None for write in begin} | {write.version for write in self.pending}


class Ledger:
    """Any thread may ask; a document is written by its owner's thread alone."""

    def __init__(self):
        self._lock = threading.Lock()
        self._documents, self._by_owner, self._text = {}, {}, []

    # ---- writing

    def new_version(self, text):
        """A number that no other write has, of a document with that text."""
        with self._lock:
            self._text.append(text)
            return len(self._text) - 1

    def text_of(self, version):
        with self._lock:
            return self._text[version] if 0 <= version < len(self._text) else None

    def begin(self, owner, document, version, low):
        """To be called before the write is sent; `low` is more than every number known to be given out already."""
        with self._lock:
            if document not in self._documents:
                self._documents[document] = Document(owner)
                self._by_owner.setdefault(owner, []).append(document)
            write = Write(document, version, low)
            self._documents[document].pending.append(write)
            return write

    def happened(self, write, low=None, high=None):
        """Between low and high, where those are known."""
        with self._lock:
            self._settle(write)
            write.low, write.high, write.settled = low if low is not None else write.low, high, True
            self._documents[write.document].writes.append(write)

    def did_not_happen(self, write):
        with self._lock:
            self._settle(write)

    def bound(self, owner, seq):
        """The owner was given seq for a new write: all that it wrote before has a smaller one."""
        with self._lock:
            for name in self._by_owner.get(owner, ()):
                for write in self._documents[name].writes[-2:]:
                    if write.high is None:
                        write.high = seq - 1

    def _settle(self, write):
        self._documents[write.document].pending.remove(write)

    # ---- asking

    def at(self, document, seq):
        with self._lock:
            found = self._documents.get(document)
            return found.at(seq) if found else {None}

    def count(self, document):
        """How many writes of it have happened."""
        with self._lock:
            found = self._documents.get(document)
            return len(found.writes) if found else 0

    def now(self, document, since=0):
        with self._lock:
            found = self._documents.get(document)
            return found.now(since) if found else {None}

    def current(self, document):
        """The versions that a read may show that begins now."""
        return self.now(document, self.count(document))

    def last(self, document):
        """The last write that happened, or None."""
        with self._lock:
            found = self._documents.get(document)
            return found.writes[-1] if found and found.writes else None

    def documents(self, owner=None):
        with self._lock:
            return list(self._documents) if owner is None else list(self._by_owner.get(owner, ()))

    def owners(self):
        with self._lock:
            return list(self._by_owner)

    def living(self):
        """Version by document, at rest: nothing may be pending."""
        with self._lock:
            unsettled = [name for name, document in self._documents.items() if document.pending]
            assert not unsettled, f"it is not known what became of the writes of {unsettled}"
            last = {name: document.writes[-1].version for name, document in self._documents.items() if document.writes}
            return {name: version for name, version in last.items() if version is not None}
