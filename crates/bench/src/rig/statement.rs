//! A provider's complete statement, as `PUT /api/providers/NAME` takes it.

/// The body of a statement of these instances, each a JSON object.
pub fn statement(instances: impl IntoIterator<Item = String>) -> String {
    let mut body = "{\"instances\":[".to_owned();
    for (at, instance) in instances.into_iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str(&instance);
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_separated_by_commas() {
        let instance = |id: &str| format!("{{\"id\":\"{id}\"}}");
        let expected = "{\"instances\":[{\"id\":\"a\"},{\"id\":\"b\"}]}";
        assert_eq!(statement(["a", "b"].map(instance)), expected);
        assert_eq!(statement([]), "{\"instances\":[]}");
    }
}
