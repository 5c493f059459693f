//! The configuration reference, written from the schema.

use std::fmt::Write;

use serde_json::Value;

use super::keys::{self, ANY_NAME, Shape};

pub(super) fn markdown() -> String {
    let schema = keys::schema();
    let mut page = String::from(INTRODUCTION);
    for (name, section) in Shape::root(&schema).children() {
        write_section(&mut page, name, section);
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

fn write_section(page: &mut String, path: &str, section: Shape<'_>) {
    let _ = write!(page, "\n## `[{path}]`\n\n{}\n\n", section.meaning());
    page.push_str("| key | type | default | reload | meaning |\n|---|---|---|---|---|\n");
    let mut inner = Vec::new();
    for (name, key) in section.children() {
        write_row(page, &format!("{path}.{name}"), key);
        if key.is_map() {
            let own = key.child(ANY_NAME).filter(|own| own.is_table());
            inner.extend(own.map(|own| (format!("{path}.{name}.{ANY_NAME}"), own)));
        } else if key.is_table() {
            inner.push((format!("{path}.{name}"), key));
        }
    }
    for (path, own) in inner {
        write_section(page, &path, own);
    }
}

fn write_row(page: &mut String, path: &str, key: Shape<'_>) {
    let reload = if key.is_reloadable() { "yes" } else { "restart" };
    let default = key.default_value().map(default_text).unwrap_or_default();
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
