//! Tests of the library and its program from outside, in one binary: each links all of DataFusion.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod demo;
mod examples;
mod goldens;
mod linear_goldens;
mod properties;
mod queries;
mod readme;
mod s3_server;
mod shell;
mod statements;
mod store;
mod tutorials;
