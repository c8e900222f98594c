"""Clients of exports, and programs that measure them; none of them installs."""
