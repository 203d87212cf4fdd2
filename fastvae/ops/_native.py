"""The only file that loads fastvae._C."""

from __future__ import annotations

loaded = False
reason = "this build has no native library"
