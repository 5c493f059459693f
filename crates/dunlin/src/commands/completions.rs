//! `dunlin completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;

pub(crate) fn completions(shell: Shell, context: &Context) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dunlin", &mut script);
    // Scripts indent with tabs, which the terminal must get as they are.
    context.out.raw(&script);
}
