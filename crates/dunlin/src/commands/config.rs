//! `dunlin config`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use dunlin_core::config::Config;
use serde_json::json;

use crate::context::Context;
use crate::failure::DONE;
use crate::settings::{self, ResolvedConfig};

/// Check, show or describe the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the configuration is right, and if not, what is wrong in which line.
    Check {
        /// A file [default: the one an agent would read].
        file: Option<PathBuf>,
    },
    /// Print the settings in force, with defaults and variables.
    Show,
    /// Print the JSON schema of the file, for editors.
    Schema,
    /// Print all keys with types, defaults and meanings, as Markdown.
    Reference,
}

pub(crate) fn config(args: ConfigArgs, context: &Context) -> Result<u8> {
    let out = context.out;
    match args.command {
        ConfigCommand::Check { file } => check(file, context)?,
        ConfigCommand::Show => show(context)?,
        ConfigCommand::Schema => out.json(&Config::schema()),
        ConfigCommand::Reference => out.line(Config::reference().trim_end()),
    }
    Ok(DONE)
}

fn check(file: Option<PathBuf>, context: &Context) -> Result<()> {
    let named = file.as_deref().or(context.config.as_deref());
    let loaded = settings::load(named)?;
    crate::logging::check(&loaded.config.log)?;
    ResolvedConfig::resolve(loaded.config)?;
    let file = loaded.file.map(|f| f.display().to_string());
    if context.out.is_json() {
        context.out.json(&json!({ "valid": true, "file": file }));
    } else {
        let file = file.unwrap_or_else(|| "no file, defaults and variables".to_owned());
        context.out.line(format_args!("{file}: valid"));
    }
    Ok(())
}

fn show(context: &Context) -> Result<()> {
    let settings = ResolvedConfig::resolve(settings::load(context.config.as_deref())?.config)?;
    let mut config = settings.config;
    config.node.name = Some(settings.node_name);
    config.node.address = Some(settings.address);
    config.node.data_dir = Some(settings.data_dir);
    if context.out.is_json() {
        context.out.json(&config);
    } else {
        context.out.line(config.to_toml().trim_end());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_holds_the_reference_of_this_release() {
        let page = include_str!("../../../../docs/src/configuration.md");
        assert_eq!(page.trim_end(), Config::reference().trim_end(), "dunlin config reference");
    }
}
