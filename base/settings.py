"""Settings: read from a mapping given by the caller, all faults reported at once, secrets hidden from repr.

Each area has a frozen struct beside its code and a function that fills it from a `Reader`; a process composes those it
needs in its own start-up. Nothing is read at import.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

SECRET_MIN_BYTES: Final = 16
PREFIX: Final = "TIRAGE_"


class SettingsError(Exception):
    """Start-up is refused; `faults` names every variable that is missing or wrong."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("settings are not usable:\n" + "\n".join(f"  {fault}" for fault in faults))


class Secret(Generic[T]):
    """A value that neither `repr` nor `str` shows; `reveal()` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"


class Keys(tuple[tuple[str, Secret[bytes]], ...]):
    """An ordered key list (key id, bytes): the first signs or encrypts, every one verifies or opens."""

    @property
    def current(self) -> tuple[str, Secret[bytes]]:
        return self[0]

    def find(self, key_id: str) -> bytes | None:
        """The key with this id, or None."""
        return next((key.reveal() for name, key in self if name == key_id), None)


class Reader:
    """Reads variables and collects every fault; call `finish()` before using what was read."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._faults: list[str] = []
        self._prefix = PREFIX

    def of_region(self, region: str) -> "Reader":
        """A reader of another region's variables, `TIRAGE_REGION_NAME_…`; its faults are this one's."""
        other = Reader(self._env)
        other._faults, other._prefix = self._faults, f"{PREFIX}REGION_{region.upper()}_"
        return other

    def _spelt(self, text: str) -> str:
        return text.replace(PREFIX, self._prefix, 1)

    def fault(self, text: str) -> None:
        """Add a fault found by a caller's own rule."""
        self._faults.append(self._spelt(text))

    @property
    def faults(self) -> tuple[str, ...]:
        """What was found wrong so far."""
        return tuple(self._faults)

    def finish(self) -> None:
        """Raise `SettingsError` with all faults, if there are any."""
        if self._faults:
            raise SettingsError(self._faults)

    def text(self, name: str, default: str | None = None) -> str:
        """A non-empty text; without a default the variable must be set."""
        value = self._env.get(self._spelt(name), "").strip()
        if value:
            return value
        if default is None:
            self.fault(f"{name} is not set")
            return ""
        return default

    def choice(self, name: str, allowed: frozenset[str], default: str) -> str:
        """One of `allowed`."""
        value = self.text(name, default)
        if value not in allowed:
            self.fault(f"{name} must be one of {', '.join(sorted(allowed))}, not {value!r}")
        return value

    def number(self, name: str, default: int | None, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        raw = self.text(name, None if default is None else str(default))
        try:
            value = int(raw)
        except ValueError:
            if raw:
                self.fault(f"{name} must be a whole number, not {raw!r}")
            return low
        if not low <= value <= high:
            self.fault(f"{name} must be between {low} and {high}, not {value}")
        return value

    def url(self, name: str, schemes: frozenset[str], default: str | None = None) -> str:
        """A URL with one of `schemes` and a host (or a `host=` query, as for a Postgres socket)."""
        value = self.text(name, default)
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in schemes or not (parts.hostname or "host=" in parts.query):
            self.fault(f"{name} must be a URL with scheme {' or '.join(sorted(schemes))} and a host")
        return value

    def file(self, name: str) -> str | None:
        """The path of a file that can be read, or None when the variable is not set."""
        path = self.text(name, "")
        if path and not os.access(path, os.R_OK):
            self.fault(f"{name} must be a file that can be read, not {path!r}")
        return path or None

    def certificate(self, name: str) -> tuple[Path, Path] | None:
        """The files of a server's certificate chain and key (`NAME_CERT`, `NAME_KEY`); None: no TLS."""
        cert, key = self.file(f"{name}_CERT"), self.file(f"{name}_KEY")
        if (cert is None) != (key is None):
            self.fault(f"{name}_CERT and {name}_KEY come together")
        return None if cert is None or key is None else (Path(cert), Path(key))

    def secret(self, name: str) -> Secret[str]:
        """A secret text; empty stops the start."""
        return Secret(self.text(name))

    def key(self, name: str, size: int = 32) -> Secret[bytes]:
        """One key of exactly `size` bytes, base64."""
        return Secret(self._decode(name, self.text(name), size))

    def keys(self, name: str, size: int = 32) -> Keys:
        """`id:base64,…` of exactly `size` bytes each; empty, doubled or malformed lists are faults."""
        found: list[tuple[str, Secret[bytes]]] = []
        raw = self.text(name)
        for part in (p.strip() for p in raw.split(",")) if raw else ():
            key_id, _, encoded = part.partition(":")
            if not (encoded and key_id.isalnum() and key_id.islower() and len(key_id) <= 8):
                self.fault(f"{name} must be a list of id:base64 with ids of up to 8 lower-case letters and digits")
                continue
            found.append((key_id, Secret(self._decode(name, encoded, size))))
        if len({key_id for key_id, _ in found}) != len(found):
            self.fault(f"{name} names a key id twice")
        return Keys(found)

    def _decode(self, name: str, encoded: str, size: int) -> bytes:
        if not encoded:
            return b""
        try:
            value = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self.fault(f"{name} is not base64")
            return b""
        if len(value) != size:
            self.fault(f"{name} must hold {size} bytes, not {len(value)}")
        elif not any(value):
            self.fault(f"{name} is all zeros")
        return value
