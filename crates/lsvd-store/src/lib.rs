//! Object stores for LSVD: local directory, memory, decorators.
