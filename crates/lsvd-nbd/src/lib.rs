//! An NBD server (and small client) over any block device.
