//! benocs-web.
