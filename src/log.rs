//! What brig says besides its results: errors and warnings, to stderr and to --log.
