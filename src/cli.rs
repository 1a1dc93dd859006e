//! Arguments become values; no logic.
