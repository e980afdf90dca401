//! benocs-link.
