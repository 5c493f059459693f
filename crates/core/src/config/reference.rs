//! The configuration reference, written from the schema.

use std::fmt::Write;

use serde_json::Value;

use super::Root;
use super::keys::{self, ANY_NAME, Shape};

pub(super) fn markdown<C: Root>() -> String {
    let schema = keys::schema::<C>();
    let mut page = String::from(INTRODUCTION);
    for (name, shape) in Shape::root(&schema).children() {
        if let Some(section) = Section::of(name.to_owned(), name.to_owned(), shape) {
            section.write(&mut page);
        }
    }
    page
}

const INTRODUCTION: &str = "\
# Configuration reference

<!-- Written by `dunlin config reference`; changes made here by hand are lost. -->

The file is `dunlin.toml`, or what `--config` or `DUNLIN_CONFIG` names. Every key can also be given as a
variable, `DUNLIN_SECTION__KEY`, which wins over the file: `DUNLIN_DNS__TTL=5s`. Lists in variables are
separated by commas. Unknown keys are errors. `dunlin config check` reads a file without using it.

*Reload* says whether SIGHUP (`systemctl reload dunlin`) applies a change; the others need a restart.
";

/// A section of the file, or the sections of a list.
struct Section<'a> {
    /// The path in front of the section's keys: `router[].tls`.
    keys: String,
    /// The name of the section in TOML: `router.tls`.
    header: String,
    shape: Shape<'a>,
    meaning: String,
    is_list: bool,
}

impl<'a> Section<'a> {
    /// The section that a key holds; `None` if it holds a plain value, or a map of plain values.
    fn of(keys: String, header: String, shape: Shape<'a>) -> Option<Self> {
        if let Some(item) = shape.item() {
            let meaning = shape.meaning();
            let meaning = if meaning.is_empty() { item.meaning() } else { meaning };
            return Some(Self { keys: keys + "[]", header, shape: item, meaning, is_list: true });
        }
        if shape.is_map() {
            let own = shape.child(ANY_NAME)?;
            return Self::of(format!("{keys}.{ANY_NAME}"), format!("{header}.{ANY_NAME}"), own);
        }
        let meaning = shape.meaning();
        shape.is_table().then_some(Self { keys, header, shape, meaning, is_list: false })
    }

    fn write(&self, page: &mut String) {
        let Self { keys, header, meaning, .. } = self;
        let (open, close) = if self.is_list { ("[[", "]]") } else { ("[", "]") };
        let _ = write!(page, "\n## `{open}{header}{close}`\n\n{meaning}\n\n");
        if self.is_list {
            page.push_str(
                "There may be several such sections. Variables cannot set their keys.\n\n",
            );
        }
        page.push_str("| key | type | default | reload | meaning |\n|---|---|---|---|---|\n");
        let mut inner = Vec::new();
        for (name, key) in self.shape.children() {
            let path = format!("{keys}.{name}");
            write_row(page, &path, key);
            inner.extend(Section::of(path, format!("{header}.{name}"), key));
        }
        for section in inner {
            section.write(page);
        }
    }
}

fn write_row(page: &mut String, path: &str, key: Shape<'_>) {
    let reload = if key.is_reloadable() { "yes" } else { "restart" };
    let default = key.default_value().map(default_text).unwrap_or_default();
    let default = if key.is_required() { "required".to_owned() } else { default };
    let cells = [key.type_word(), default, reload.to_owned(), key.meaning()];
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    let _ = writeln!(page, "| `{path}` | {} |", cells.join(" | "));
}

fn default_text(value: &Value) -> String {
    let is_empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty {
        return "none".to_owned();
    }
    format!("`{value}`")
}
