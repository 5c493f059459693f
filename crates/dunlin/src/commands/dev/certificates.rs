//! A throw-away authority and a certificate for each agent, in a folder that only this user can enter.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dunlin_agent::net::tls::issue::{self, Validity};
use dunlin_core::config::ClusterTls;
use dunlin_core::model::{NodeName, ZoneName};

use super::seat::Seat;
use crate::commands::tls::write_whole;

/// Days for which the certificates are valid: longer than anybody tries things out at a stretch.
const DAYS: u64 = 365;

/// Makes the files and returns where those of each agent are.
pub(super) fn make(folder: &Path, nodes: u8) -> Result<Vec<ClusterTls>> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let ca = issue::create_ca("dunlin dev", Validity::days(DAYS))?;
    let ca_file = write(folder, "ca.crt", &ca.certificate, 0o644)?;
    let for_one = |seat: Seat| {
        let node = NodeName::parse(&seat.name())?;
        let zone = ZoneName::parse(&seat.zone())?;
        let issued = issue::create_certificate(
            &ca.certificate,
            &ca.key,
            &node,
            &zone,
            Validity::days(DAYS),
        )?;
        Ok(ClusterTls {
            ca: ca_file.clone(),
            cert: write(folder, &format!("{node}.crt"), &issued.certificate, 0o644)?,
            key: write(folder, &format!("{node}.key"), &issued.key, 0o600)?,
        })
    };
    Seat::all(nodes).map(for_one).collect()
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) -> Result<PathBuf> {
    let file = folder.join(name);
    write_whole(&file, text, mode).with_context(|| file.display().to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_gets_files_of_its_own_and_all_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let made = make(&folder.path().join("tls"), 3).unwrap();
        assert_eq!(made.len(), 3);
        assert!(made.iter().all(|tls| tls.ca == made[0].ca));
        assert!(made[0].cert.ends_with("tls/n1.crt") && made[2].key.ends_with("tls/n3.key"));
        for file in [&made[1].ca, &made[1].cert, &made[1].key] {
            assert!(std::fs::read_to_string(file).unwrap().starts_with("-----BEGIN "));
        }
    }
}
