//! The admin endpoint: `/metrics`, `/healthz`, `/readyz`, on a thread of its own.
