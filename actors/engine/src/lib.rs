//! benocs-engine.
