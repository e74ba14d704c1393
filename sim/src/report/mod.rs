//! What happened in a run, to look at: a page with a timeline, and the same for a terminal.
//!
//! - [`html()`]: one self-contained file; [`text()`]: columns of characters.
//! - `lanes`: who was alive, in which role, when: what the terminal shows.
//! - [`words`]: calls and answers, short to read.

mod html;
mod lanes;
mod text;
pub mod words;

pub use html::html;
pub use text::text;

#[cfg(test)]
mod sample;
