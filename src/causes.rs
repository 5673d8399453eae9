//! An error with everything that led to it, for one line of a log or a terminal.

use std::error::Error;
use std::fmt;

/// Shows an error and its causes, outermost first: `opening the cache: permission denied`.
#[derive(Debug, Clone, Copy)]
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn every_cause_is_told_once_and_in_order() {
        let inner = Layer("the wire was cut", None);
        let error = Layer("sending", Some(Box::new(Layer("connecting", Some(Box::new(inner))))));
        assert_eq!(Causes(&error).to_string(), "sending: connecting: the wire was cut");
        assert_eq!(Causes(&Layer("alone", None)).to_string(), "alone");
    }
}
