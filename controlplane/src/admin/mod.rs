//! The admin API: HTTP/1.1 and JSON on a Unix socket.
//!
//! [`api`] is the contract both ends share, [`access`] decides who may do what, [`socket`] puts
//! the socket into the file system, [`server`] answers requests from a [`backend::Backend`].

pub mod access;
pub mod api;
pub mod backend;
pub mod server;
pub mod socket;
