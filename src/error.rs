//! What can go wrong, in one sentence that names the thing at fault and what to do instead.

use std::fmt;

use datafusion::common::DataFusionError;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose turn it is to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement asks for something that cannot be: an unknown option, a missing column, k = 0.
    /// Known when the statement is planned, wherever possible.
    Request,
    /// The rows cannot be learned from or scored: an empty input, a label of one value.
    Data,
    /// A stored model cannot be used: it does not exist, is corrupt, or is newer than this library.
    Model,
    /// The model store does not answer or refuses.
    Store,
    /// More memory than the session's limit allows would be needed.
    Memory,
    /// The query was cancelled.
    Cancelled,
    /// DataFusion or Arrow failed underneath.
    Engine,
}

/// An error: its kind, one sentence to show, and the cause to debug.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// An error of kind [`ErrorKind::Request`].
    pub fn request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Request, message)
    }

    /// An error of kind [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// An error of kind [`ErrorKind::Model`].
    pub fn model(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Model, message)
    }

    /// An error of kind [`ErrorKind::Store`].
    pub fn store(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Store, message)
    }

    /// An error of kind [`ErrorKind::Memory`].
    pub fn memory(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Memory, message)
    }

    /// The query was cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the query was cancelled")
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whose turn it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence, without the cause.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (&self.source, self.kind) {
            (Some(source), ErrorKind::Store | ErrorKind::Model) => write!(f, " ({source})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e.as_ref() as _)
    }
}

impl From<crate::kernels::Cancelled> for Error {
    fn from(_: crate::kernels::Cancelled) -> Self {
        Self::cancelled()
    }
}

impl From<DataFusionError> for Error {
    fn from(e: DataFusionError) -> Self {
        Self::new(ErrorKind::Engine, e.to_string()).with_source(e)
    }
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(e: datafusion::arrow::error::ArrowError) -> Self {
        Self::new(ErrorKind::Engine, e.to_string()).with_source(e)
    }
}

impl From<Error> for DataFusionError {
    fn from(e: Error) -> Self {
        match e.kind {
            ErrorKind::Request => DataFusionError::Plan(e.to_string()),
            ErrorKind::Memory => DataFusionError::ResourcesExhausted(e.to_string()),
            ErrorKind::Engine => match e.source.map(|s| s.downcast::<DataFusionError>()) {
                Some(Ok(inner)) => *inner,
                _ => DataFusionError::Execution(e.message),
            },
            _ => DataFusionError::Execution(e.to_string()),
        }
    }
}

/// The candidate that `word` was most likely meant to be, if any comes near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&word, &c.to_lowercase()), c))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// `a, b and c`, each in quotes; at most `limit` of them, then how many more there are.
pub fn list(words: impl IntoIterator<Item = impl AsRef<str>>, limit: usize) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("'{}'", w.as_ref())).collect();
    if words.len() > limit {
        return format!("{} and {} more", words[..limit].join(", "), words.len() - limit);
    }
    match words.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_errors_and_nothing_else() {
        assert_eq!(
            nearest("standardise", ["k", "standardize", "seed"]),
            Some("standardize")
        );
        assert_eq!(nearest("SEDE", ["k", "seed"]), Some("seed"));
        assert_eq!(nearest("zebra", ["k", "seed"]), None);
    }

    #[test]
    fn lists_read_as_english() {
        assert_eq!(list(["a"], 9), "'a'");
        assert_eq!(list(["a", "b", "c"], 9), "'a', 'b' and 'c'");
        assert_eq!(list(["a", "b", "c"], 2), "'a', 'b' and 1 more");
    }
}
