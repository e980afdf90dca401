//! benocs-store.
