//! Names: which service an address served, as resolvers answered their clients.
