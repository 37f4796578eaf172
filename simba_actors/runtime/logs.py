"""Log lines that are safe to show in a terminal, whatever an LM, a student or a provider wrote into them."""

from __future__ import annotations

import logging
import unicodedata


def get_logger(name: str) -> logging.Logger:
    """Return the logger called `name`. Its messages and tracebacks have control characters written out."""
    logger = logging.getLogger(name)
    if not any(isinstance(known, _Visible) for known in logger.filters):
        logger.addFilter(_Visible())
    return logger


class _Visible(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        shown = visible(message)
        if shown != message:
            record.msg, record.args = shown, ()
        if record.exc_info and not record.exc_text:
            # Formatters use the text of an exception that is already there.
            record.exc_text = visible(_TRACEBACKS.formatException(record.exc_info))
        return True


_TRACEBACKS = logging.Formatter()


def visible(text: str, *, keep: str = "\n\t") -> str:
    """Return `text` with control, bidirectional and other invisible characters written out, as in `\\u202e`.

    Then what an LM wrote can neither steer a terminal nor change how a reader sees it. Characters in `keep` stay.
    So do joiners within emoji, and within words of scripts that are spelled with them, such as Persian.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char in keep or unicodedata.category(char) not in _HIDDEN or (char in _JOINERS and _joins(text, index))
        else _written_out(char)
        for index, char in enumerate(text)
    )


def _joins(text: str, index: int) -> bool:
    """Return whether the joiner at `index` is between two visible characters that are not ASCII."""
    around = text[index - 1 : index], text[index + 1 : index + 2]
    return all(char > "\x7f" and unicodedata.category(char) not in _HIDDEN for char in around)


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_JOINERS = "\u200c\u200d"

_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that show nothing: controls, formats, private use, surrogates, separators."""
