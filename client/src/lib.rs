//! The public contract of Posthouse, and the library that speaks it.
#![deny(missing_docs)]

pub mod ids;

/// Generated from `proto/posthouse.proto`, which documents every message and field.
#[allow(missing_docs, clippy::doc_lazy_continuation)]
pub mod proto {
    tonic::include_proto!("posthouse.v1");
}
