//! Finding the key that may have been meant by one that does not exist.

use strsim::osa_distance;

use super::keys::{ANY_NAME, Shape};
use super::path::{KeyPath, Step};

/// The limit of characters of a wrong key that are compared with known keys, all of which are shorter.
const MAX_COMPARED: usize = 40;

/// The known key that may have been meant: one with a similar name in the same section, or with the same name in
/// another.
pub(super) fn nearest(root: Shape<'_>, section: &KeyPath, wrong: &str) -> Option<String> {
    let mut here = root;
    for step in section.steps() {
        here = match step {
            Step::Key(key) => here.child(key)?,
            Step::Item(_) => here.item()?,
        };
    }
    let start: String = wrong.chars().take(MAX_COMPARED).collect();
    let siblings = here.children().into_iter().map(|(name, _)| name);
    let closest = siblings
        .filter(|name| *name != ANY_NAME)
        .map(|name| (osa_distance(&start, name), name))
        .min();
    if let Some((distance, name)) = closest
        && distance <= start.chars().count().max(3) / 3
    {
        return Some(section.with_key(name).to_string());
    }
    let has_it = |section: Shape<'_>| section.children().iter().any(|(name, _)| *name == wrong);
    root.children().into_iter().find_map(|(name, section)| match section.item() {
        Some(item) => has_it(item).then(|| format!("{name}[].{wrong}")),
        None => has_it(section).then(|| format!("{name}.{wrong}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::keys::schema;

    #[test]
    fn a_very_long_key_is_like_no_other() {
        let schema = schema::<Config>();
        let nearest = |wrong: &str| nearest(Shape::root(&schema), &KeyPath::default(), wrong);
        assert_eq!(nearest(&"clustre".repeat(1 << 16)), None);
        assert_eq!(nearest("clustre").as_deref(), Some("cluster"));
    }

    #[test]
    fn a_swap_of_neighbours_is_one_mistake() {
        for (a, b, distance) in [("ttl", "ttl", 0), ("tll", "ttl", 1), ("lsiten", "listen", 1)] {
            assert_eq!(osa_distance(a, b), distance, "{a} {b}");
        }
        assert_eq!(osa_distance("", "zone"), 4);
        assert_eq!(osa_distance("kitten", "sitting"), 3);
    }
}
