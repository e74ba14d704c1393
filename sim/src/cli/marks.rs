//! Rare situations that the product marks ([`posthouse_node::rare`]).

/// All that are known: name and meaning.
pub fn known() -> Vec<(&'static str, &'static str)> {
    posthouse_node::rare::all()
        .map(|(name, meaning, _)| (name, meaning))
        .collect()
}
