//! Which key may have been meant by one that does not exist.

use super::keys::{ANY_NAME, Shape};
use super::path::{KeyPath, Step};

/// Longer keys are cut before they are compared: no key is longer.
const MAX_COMPARED: usize = 40;

/// The known key that a wrong one may have meant: a near name in the same section, or the same name
/// in another.
pub(super) fn nearest(root: Shape<'_>, section: &KeyPath, wrong: &str) -> Option<String> {
    let mut here = root;
    for step in section.steps() {
        here = match step {
            Step::Key(key) => here.child(key)?,
            Step::Item(_) => here.item()?,
        };
    }
    let siblings = here.children().into_iter().map(|(name, _)| name);
    let closest = siblings
        .filter(|name| *name != ANY_NAME)
        .map(|name| (edit_distance(wrong, name), name))
        .min();
    if let Some((distance, name)) = closest
        && distance <= wrong.chars().count().max(3) / 3
    {
        return Some(section.with_key(name).to_string());
    }
    let has_it = |section: Shape<'_>| section.children().iter().any(|(name, _)| *name == wrong);
    root.children().into_iter().find_map(|(name, section)| match section.item() {
        Some(item) => has_it(item).then(|| format!("{name}[].{wrong}")),
        None => has_it(section).then(|| format!("{name}.{wrong}")),
    })
}

/// Letters to insert, delete, replace or swap with their neighbour to turn one word into another.
fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|word| word.chars().take(MAX_COMPARED).collect::<String>());
    strsim::osa_distance(&a, &b)
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn a_swap_of_neighbours_is_one_mistake() {
        for (a, b, distance) in [("ttl", "ttl", 0), ("tll", "ttl", 1), ("lsiten", "listen", 1)] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
        assert_eq!(edit_distance("", "zone"), 4);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
