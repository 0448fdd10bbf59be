//! The server from outside: our client, raw bytes, hostile clients, and other people's clients.

mod device;
mod handshake;
mod hostile;
mod requests;
mod setup;
mod shutdown;
mod tools;
