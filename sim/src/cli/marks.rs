//! Rare situations that the product marks, by name.

/// All that are known.
pub fn known() -> Vec<&'static str> {
    Vec::new()
}
