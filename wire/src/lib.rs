//! benocs-wire.
