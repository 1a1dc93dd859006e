//! What a process gets before execve.
