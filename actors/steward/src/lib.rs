//! step00: what keeps the machines together. Now: the certificate authority of
//! the links; a certificate's name is its machine's role.

pub mod authority;

pub use authority::{Authority, Issued};
