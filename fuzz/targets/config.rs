//! A configuration file and variables: a configuration that is accepted is written and read again as the same.
#![cfg_attr(fuzzing, no_main)]

use dunlin_core::config::Config;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|octets: &[u8]| run(octets));

/// The input is the file and, behind an octet of zero, one variable a line.
pub(crate) fn run(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::parse_with_env(file, "dunlin.toml", variables) {
        Ok(config) => {
            let written = config.to_toml();
            let again = Config::parse(&written, "written").expect("what is written can be read");
            assert_eq!(again, config, "{written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
