//! The story: parent → clone3 → child → execve.
