//! AS table.
