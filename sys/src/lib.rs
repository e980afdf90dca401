//! benocs-sys.
