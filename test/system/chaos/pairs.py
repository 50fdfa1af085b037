"""Which encoder may answer when.

A collection is on one encoder until a change of its pair is asked for; from then until the change is known to be done
either may answer; but once one answer came from the new one, no search that begins later may be answered by the old one
(RULES X3, X5).
"""

import threading
from dataclasses import dataclass

FOREVER = float("inf")


@dataclass(slots=True)
class Reign:
    """From when until when an encoder may answer, in monotonic seconds."""

    encoder: str
    began: float
    ended: float = FOREVER


class Pairs:
    def __init__(self, encoder, now):
        self._lock = threading.Lock()
        self._reigns = [Reign(encoder, now)]
        self._changing = False

    @property
    def blue(self):
        """The encoder that rules, or that would be ruled by another soon."""
        with self._lock:
            return self._reigns[-2].encoder if self._changing else self._reigns[-1].encoder

    def begin(self, encoder, now):
        """A change to `encoder` is about to be asked for."""
        with self._lock:
            assert not self._changing
            self._reigns.append(Reign(encoder, now))
            self._changing = True

    def done(self, now):
        """The change is known to have happened."""
        with self._lock:
            old = self._reigns[-2]
            old.ended = min(old.ended, now)
            self._changing = False

    def given_up(self, now):
        """The change is known not to have happened, and not to happen any more."""
        with self._lock:
            self._reigns[-1].ended = now
            self._changing = False
            self._reigns[-2:] = reversed(self._reigns[-2:])

    def take(self, encoder, began, ended):
        """An answer to a search: None, or what is wrong with it."""
        with self._lock:
            ruled = [reign for reign in self._reigns if reign.encoder == encoder and reign.began <= ended and began <= reign.ended]
            if not ruled:
                return f"answered by {encoder}, which cannot have been blue then: {self._reigns[-3:]}"
            if self._changing and ruled == [self._reigns[-1]]:
                self._reigns[-2].ended = min(self._reigns[-2].ended, ended)
            return None

    def between(self, began, ended):
        """The encoders that may have been asked then."""
        with self._lock:
            return {reign.encoder for reign in self._reigns if reign.began <= ended and began <= reign.ended}
