//! What a learner has seen so far, as bytes: for merging what several threads learned.

use crate::error::{Error, Result};

/// Appends whole numbers, doubles and text.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn integer(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn number(&mut self, v: f64) {
        self.integer(v.to_bits());
    }

    pub(crate) fn text(&mut self, v: &str) {
        self.integer(v.len() as u64);
        self.0.extend_from_slice(v.as_bytes());
    }
}

/// Reads what [`Writer`] wrote, in the same order.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

fn broken() -> Error {
    Error::data("the state of a feature function is cut off or of another function; learn again")
}

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn integer(&mut self) -> Result<u64> {
        let (head, rest) = self.0.split_first_chunk::<8>().ok_or_else(broken)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*head))
    }

    pub(crate) fn number(&mut self) -> Result<f64> {
        self.integer().map(f64::from_bits)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let len = usize::try_from(self.integer()?).map_err(|_| broken())?;
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(broken)?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|_| broken())
    }
}
