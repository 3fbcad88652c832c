//! Wiring: puts sources, forest, telemetry and admin socket of one daemon together. No logic of its own.
