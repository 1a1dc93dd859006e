//! What is known of a container between two runs of brig.
