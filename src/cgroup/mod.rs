//! The container's cgroups: found, made, limited, entered, removed.
