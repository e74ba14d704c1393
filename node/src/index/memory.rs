//! The ordered in-memory arm.
