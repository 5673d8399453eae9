//! Stored values (BEP 44).

/// A value of BEP 44 that was verified or signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {}
