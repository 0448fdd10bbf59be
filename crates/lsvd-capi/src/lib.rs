//! C library of the log-structured virtual disk.
